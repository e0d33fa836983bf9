/**
 * Waits for `work`, at most `ms`. Throws what it throws in that time; it is not stopped,
 * and who starts it sees to what it throws later.
 */
export async function within(
  ms: number,
  work: Promise<unknown>,
): Promise<void> {
  const { promise: late, resolve } = Promise.withResolvers<void>();
  const timer = setTimeout(resolve, ms);
  try {
    await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** Whether `work` resolved before the time was over and before the abort. */
export function settlesWithin(
  work: Promise<void>,
  ms: number,
  signal: AbortSignal,
): Promise<boolean> {
  return new Promise((resolve) => {
    const finish = (settled: boolean) => {
      clearTimeout(timer);
      signal.removeEventListener("abort", onAbort);
      resolve(settled);
    };
    const onAbort = () => finish(false);
    const timer = setTimeout(() => finish(false), ms);
    signal.addEventListener("abort", onAbort);
    work.then(() => finish(true), () => finish(false));
  });
}

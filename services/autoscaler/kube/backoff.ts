export interface BackoffOptions {
  readonly firstMs: number;
  readonly maxMs: number;
  /** 0 to 1, exclusive; `Math.random` in production. */
  readonly random: () => number;
}

/**
 * How long to wait before attempt `failures` + 1: doubled each time up to the
 * maximum, and half of it by chance, so that those that failed together do not
 * come back together.
 *
 * Example: first 100 ms, third failure: 400 ms, so 200 to 400 ms.
 */
export function backoffMs(
  failures: number,
  { firstMs, maxMs, random }: BackoffOptions,
): number {
  const full = Math.min(maxMs, firstMs * 2 ** Math.min(30, failures - 1));
  return full / 2 + random() * full / 2;
}

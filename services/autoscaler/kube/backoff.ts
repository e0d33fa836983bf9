import { KubeError } from "./kube_error.ts";

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

/** A server that has too much to do says when to come again, which is obeyed up to here. */
const retryAfterMsMax = 60_000;

/** The same after `reason`, and not before the server wants to be asked again. */
export function retryWaitMs(
  reason: unknown,
  failures: number,
  options: BackoffOptions,
): number {
  const asked = reason instanceof KubeError ? reason.retryAfterMs ?? 0 : 0;
  return Math.max(
    Math.min(retryAfterMsMax, asked),
    backoffMs(failures, options),
  );
}

/**
 * When a dead process is started again.
 *
 * A process that ran for a while died of something rare: it returns at once. One
 * that keeps dying young waits twice as long each time, up to a bound, so that
 * it neither fills the log nor takes the machine from the others. One that has
 * never been ready has a fault of its set-up: after a few tries we say so.
 */
export interface RestartPolicy {
  /** Before the first restart. */
  readonly delayMs: number;
  readonly delayMsMax: number;
  /** A process that ran this long has no earlier failures counted. */
  readonly stableMs: number;
  /** Deaths before it was ever ready, after which it is not started again. */
  readonly failuresMax: number;
}

export const defaultRestartPolicy: RestartPolicy = {
  delayMs: 250,
  delayMsMax: 10_000,
  stableMs: 10_000,
  failuresMax: 3,
};

export interface Death {
  /** From start to end of the run that just ended. */
  readonly uptimeMs: number;
  /** It has been ready in this or an earlier run. */
  readonly wasReady: boolean;
  /** Deaths in a row before this one, as the last decision said. */
  readonly failures: number;
}

export type RestartDecision =
  | { kind: "restart"; delayMs: number; failures: number }
  | { kind: "give-up"; failures: number };

export function decideRestart(
  death: Death,
  policy: RestartPolicy = defaultRestartPolicy,
): RestartDecision {
  const earlier = death.uptimeMs >= policy.stableMs ? 0 : death.failures;
  const failures = earlier + 1;
  if (!death.wasReady && failures >= policy.failuresMax) {
    return { kind: "give-up", failures };
  }
  const delayMs = Math.min(
    policy.delayMs * 2 ** earlier,
    policy.delayMsMax,
  );
  return { kind: "restart", delayMs, failures };
}

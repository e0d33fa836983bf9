import { setTimeout as delay } from "node:timers/promises";

export interface WaitForOptions {
  /** Named in the error: "two workers". */
  readonly what?: string;
  /** 10,000 unless set. */
  readonly timeoutMs?: number;
  /** Between two looks; 10 unless set. */
  readonly intervalMs?: number;
}

/**
 * Waits until `probe` answers something other than `undefined`, `null` or `false`, and
 * returns that answer. A probe that throws ends the wait.
 */
export async function waitFor<T>(
  probe: () => T | Promise<T>,
  { what = "the condition", timeoutMs = 10_000, intervalMs = 10 }:
    WaitForOptions = {},
): Promise<Exclude<T, undefined | null | false>> {
  const deadlineMs = performance.now() + timeoutMs;
  while (true) {
    const found = await probe();
    if (found !== undefined && found !== null && found !== false) {
      return found as Exclude<T, undefined | null | false>;
    }
    if (performance.now() >= deadlineMs) {
      throw new Error(`Cannot wait longer for ${what}: ${timeoutMs} ms passed`);
    }
    await delay(intervalMs);
  }
}

/**
 * For how long objects have been draining, by our own clock.
 *
 * The date of their deletion is the API server's: where its clock and ours
 * differ by a minute, or ours is set, running requests would be cut off at once. A new
 * leader counts from its own beginning, so a drain may take longer, never shorter.
 */
export class DrainClock {
  readonly #nowMs: () => number;
  readonly #sinceMs = new Map<string, number>();

  constructor(nowMs: () => number) {
    this.#nowMs = nowMs;
  }

  /** Since the first question about this object; `key` holds its uid. */
  elapsedMs(key: string): number {
    const sinceMs = this.#sinceMs.get(key) ?? this.#nowMs();
    this.#sinceMs.set(key, sinceMs);
    return this.#nowMs() - sinceMs;
  }

  end(key: string): void {
    this.#sinceMs.delete(key);
  }
}

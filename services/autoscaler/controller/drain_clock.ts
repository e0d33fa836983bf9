/**
 * For how long objects have been draining, by our own clock.
 *
 * The date of their deletion is the API server's: where its clock and ours
 * differ by a minute, or ours is set, running requests would be cut off at once. A new
 * leader counts from its own beginning, so a drain may take longer, never shorter.
 */
export class DrainClock {
  readonly #nowMs: () => number;
  readonly #drains = new Map<string, { uid: string; sinceMs: number }>();

  constructor(nowMs: () => number) {
    this.#nowMs = nowMs;
  }

  /** Since the first question about this object; another one of its name is asked anew. */
  elapsedMs(key: string, uid: string): number {
    const known = this.#drains.get(key);
    const drain = known?.uid === uid ? known : { uid, sinceMs: this.#nowMs() };
    this.#drains.set(key, drain);
    return this.#nowMs() - drain.sinceMs;
  }

  end(key: string): void {
    this.#drains.delete(key);
  }
}

/** How long it takes from a wake message to the patched Deployment. */
export class WakeTiming {
  readonly #nowMs: () => number;
  readonly #onPatched: (seconds: number) => void;
  /** When the wake came that changed a pool, by pool, until its Deployment is patched. */
  readonly #wakes = new Map<string, number>();
  #heardAtMs = 0;

  constructor(nowMs: () => number, onPatched: (seconds: number) => void) {
    this.#nowMs = nowMs;
    this.#onPatched = onPatched;
  }

  /** A wake message came; what it changes is told right after. */
  heard(): void {
    this.#heardAtMs = this.#nowMs();
  }

  changed(pool: string): void {
    this.#wakes.set(pool, this.#heardAtMs);
  }

  /** The pool's objects are as wanted. */
  patched(pool: string): void {
    const sinceMs = this.#wakes.get(pool);
    if (sinceMs === undefined) return;
    this.#wakes.delete(pool);
    this.#onPatched((this.#nowMs() - sinceMs) / 1_000);
  }
}

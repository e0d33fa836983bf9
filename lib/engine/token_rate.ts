/** Tokens per second over the last few seconds, in one-second buckets. */
export class TokenRate {
  readonly #counts = new Float64Array(windowSeconds + 1);
  #second = 0;

  add(count: number, nowMs: number): void {
    this.#moveTo(nowMs);
    this.#counts[this.#second % this.#counts.length] += count;
  }

  /** The average over the whole seconds of the window. */
  perSecond(nowMs: number): number {
    this.#moveTo(nowMs);
    let sum = 0;
    for (const count of this.#counts) sum += count;
    const partOfSecond = nowMs / 1000 - this.#second;
    return sum / (windowSeconds + partOfSecond);
  }

  #moveTo(nowMs: number): void {
    const second = Math.floor(nowMs / 1000);
    const elapsed = Math.min(second - this.#second, this.#counts.length);
    for (let i = 1; i <= elapsed; i++) {
      this.#counts[(second - elapsed + i) % this.#counts.length] = 0;
    }
    this.#second = Math.max(second, this.#second);
  }
}

const windowSeconds = 5;

/**
 * Tokens per second of the time spent on them, of late.
 *
 * The clock of this rate runs only while there is such work: a worker that is asked once
 * an hour is as fast as one that is asked always, and that speed is what a latency model
 * needs. Old work fades with the work that follows it: `fadeSeconds` of work later it
 * counts 1/e.
 */
export class BusyRate {
  #tokens = 0;
  #seconds = 0;

  add(tokens: number, seconds: number): void {
    const keep = Math.exp(-seconds / fadeSeconds);
    this.#tokens = this.#tokens * keep + tokens;
    this.#seconds = this.#seconds * keep + seconds;
  }

  /** 0 before any work. */
  get perSecond(): number {
    return this.#seconds > 0 ? this.#tokens / this.#seconds : 0;
  }
}

/** Long enough for some hundred steps, short enough to follow a change of load. */
const fadeSeconds = 2;

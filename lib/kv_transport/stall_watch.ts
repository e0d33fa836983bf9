import type { PullFailure } from "./types.ts";

/**
 * Gives up on a transfer that has gone quiet.
 *
 * Two bounds: nothing heard at all (the worker is gone or hangs; it promises a
 * sign of life twice a second), and signs of life without a block (it is alive
 * but too busy to be worth waiting for).
 *
 * Time is counted in looks, not by the clock: when this process itself stood
 * still, messages wait unread and the missed looks are not made up for.
 */
export class StallWatch implements Disposable {
  readonly #options: StallWatchOptions;
  readonly #timer: ReturnType<typeof setInterval>;
  readonly #everyMs: number;
  #silentMs = 0;
  #blocklessMs = 0;
  #failure: PullFailure | undefined;

  constructor(options: StallWatchOptions) {
    this.#options = options;
    this.#everyMs = Math.min(options.stallMs, options.blockWaitMs) / looks;
    this.#timer = setInterval(() => this.#look(), this.#everyMs);
  }

  heard(): void {
    this.#silentMs = 0;
  }

  heardBlock(): void {
    this.#silentMs = this.#blocklessMs = 0;
  }

  /** Set when the watch gave up. */
  get failure(): PullFailure | undefined {
    return this.#failure;
  }

  #look(): void {
    const { stallMs, blockWaitMs, giveUp } = this.#options;
    this.#silentMs += this.#everyMs;
    this.#blocklessMs += this.#everyMs;
    if (this.#silentMs >= stallMs) {
      this.#failure = {
        reason: "stalled",
        message: `Gave up the KV transfer: nothing was heard for ${stallMs} ms`,
      };
    } else if (this.#blocklessMs >= blockWaitMs) {
      this.#failure = {
        reason: "slow",
        message: `Gave up the KV transfer: no block came for ${blockWaitMs} ms`,
      };
    }
    if (this.#failure === undefined) return;
    clearInterval(this.#timer);
    giveUp();
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
  }
}

/** Looks within the shorter bound. */
const looks = 8;

export interface StallWatchOptions {
  /** Longest silence. */
  readonly stallMs: number;
  /** Longest wait for a block while there are signs of life. */
  readonly blockWaitMs: number;
  readonly giveUp: () => void;
}

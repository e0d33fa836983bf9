import type { PullFailure } from "./types.ts";

/**
 * Gives up on a transfer that has gone quiet.
 *
 * Two bounds: nothing heard at all (the worker is gone or hangs; it promises a
 * sign of life twice a second), and signs of life without a block (it is alive
 * but too busy to be worth waiting for).
 */
export class StallWatch implements Disposable {
  readonly #options: StallWatchOptions;
  readonly #timer: ReturnType<typeof setInterval>;
  #heardAtMs: number;
  #blockAtMs: number;
  #failure: PullFailure | undefined;

  constructor(options: StallWatchOptions) {
    this.#options = options;
    this.#heardAtMs = this.#blockAtMs = performance.now();
    const everyMs = Math.max(
      5,
      Math.min(options.stallMs, options.blockWaitMs) / 4,
    );
    this.#timer = setInterval(() => this.#look(), everyMs);
  }

  heard(): void {
    this.#heardAtMs = performance.now();
  }

  heardBlock(): void {
    this.#heardAtMs = this.#blockAtMs = performance.now();
  }

  /** Set when the watch gave up. */
  get failure(): PullFailure | undefined {
    return this.#failure;
  }

  #look(): void {
    const { stallMs, blockWaitMs, giveUp } = this.#options;
    const nowMs = performance.now();
    if (nowMs - this.#heardAtMs >= stallMs) {
      this.#failure = {
        reason: "stalled",
        message: `Gave up the KV transfer: nothing was heard for ${stallMs} ms`,
      };
    } else if (nowMs - this.#blockAtMs >= blockWaitMs) {
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

export interface StallWatchOptions {
  /** Longest silence. */
  readonly stallMs: number;
  /** Longest wait for a block while there are signs of life. */
  readonly blockWaitMs: number;
  readonly giveUp: () => void;
}

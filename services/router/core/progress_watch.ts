import type { Clock } from "../../../lib/bus/clock.ts";
import { Code, MeshError } from "../../../lib/errors/mesh_error.ts";

export interface ProgressWatchOptions {
  readonly clock: Clock;
  /** Silence after which the call is given up; noticed within half of that again. */
  readonly stallMs: number;
  /** Of the request. */
  readonly signal: AbortSignal;
  readonly workerId: string;
}

/** The worker lives but brings nothing. */
export class StalledError extends MeshError {
  readonly silentMs: number;

  constructor(workerId: string, silentMs: number) {
    super(
      Code.unavailable,
      `Decode worker "${workerId}" has brought nothing for ${silentMs} ms`,
    );
    this.silentMs = silentMs;
  }
}

/**
 * Gives a decode call up that has begun and then brings nothing: a process whose
 * device hangs still renews its record. Until the first event a sequence may wait its
 * turn for as long as it takes, unless another one on that worker was given up.
 * An event costs an addition, no look at the clock.
 */
export class ProgressWatch implements Disposable {
  readonly #options: ProgressWatchOptions;
  readonly #controller = new AbortController();
  #eventCount = 0;
  #seenCount = 0;
  #quietTicks = 0;
  #timer: Disposable | undefined;

  constructor(options: ProgressWatchOptions) {
    this.#options = options;
    options.signal.addEventListener("abort", this.#follow);
    if (options.signal.aborted) this.#follow();
  }

  /** Aborted with the request, or with a `StalledError`. */
  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  heard(): void {
    if (this.#eventCount++ === 0) this.#wait();
  }

  /** The worker brings nothing to others: who has not begun there waits in vain. */
  workerHangs(silentMs: number): void {
    if (this.#eventCount > 0) return;
    const { workerId } = this.#options;
    this.#controller.abort(new StalledError(workerId, silentMs));
  }

  [Symbol.dispose](): void {
    this.#timer?.[Symbol.dispose]();
    this.#options.signal.removeEventListener("abort", this.#follow);
  }

  readonly #follow = () => this.#controller.abort(this.#options.signal.reason);

  #wait(): void {
    const { clock, stallMs } = this.#options;
    this.#timer = clock.setTimer(stallMs / 2, () => this.#look());
  }

  #look(): void {
    const isQuiet = this.#eventCount === this.#seenCount;
    this.#seenCount = this.#eventCount;
    this.#quietTicks = isQuiet ? this.#quietTicks + 1 : 0;
    if (this.#quietTicks < 2) return this.#wait();
    const { workerId, stallMs } = this.#options;
    this.#controller.abort(new StalledError(workerId, stallMs));
  }
}

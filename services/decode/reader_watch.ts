import { Code, MeshError } from "../../lib/errors/mesh_error.ts";

/**
 * While the reader is slow its sequence goes on inside the engine, where its events are
 * bounded by max_tokens; a reader that stands still would hold KV blocks for nothing, so
 * it loses them after a while.
 */
export class ReaderWatch implements Disposable {
  readonly #call: AbortSignal;
  readonly #slowReaderMs: number;
  readonly #controller = new AbortController();
  #timer: ReturnType<typeof setTimeout> | undefined;

  /** @param call Of the call that the sequence answers. */
  constructor(call: AbortSignal, slowReaderMs: number) {
    this.#call = call;
    this.#slowReaderMs = slowReaderMs;
    call.addEventListener("abort", this.#follow);
    if (call.aborted) this.#follow();
  }

  /** Aborted with the call, or when the reader has stood still for too long. */
  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  /** The reader is behind until `reading` resolves. */
  watch(reading: Promise<void>): void {
    clearTimeout(this.#timer);
    const timer = setTimeout(() => this.#giveUp(), this.#slowReaderMs);
    this.#timer = timer;
    void reading.then(() => clearTimeout(timer));
  }

  /** Rejects with the signal's reason when that comes first. */
  orGone(reading: Promise<void>): Promise<void> {
    const { signal } = this;
    return new Promise((resolve, reject) => {
      const leave = () => reject(signal.reason);
      signal.addEventListener("abort", leave);
      if (signal.aborted) leave();
      void reading.then(resolve);
    });
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#timer);
    this.#call.removeEventListener("abort", this.#follow);
  }

  readonly #follow = () => this.#controller.abort(this.#call.reason);

  #giveUp(): void {
    this.#controller.abort(
      new MeshError(
        Code.resourceExhausted,
        `Cannot go on with the sequence: its reader took nothing for ${this.#slowReaderMs} ms`,
      ),
    );
  }
}

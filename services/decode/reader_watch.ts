import { Code, MeshError } from "../../lib/errors/mesh_error.ts";
import type { Admitted } from "../../lib/worker/mod.ts";

/**
 * While the reader is slow its sequence goes on inside the engine, where its events are
 * bounded by max_tokens; a reader that stands still would hold KV blocks for nothing, so
 * its call is aborted after a while.
 */
export class ReaderWatch implements Disposable {
  readonly #call: Admitted;
  readonly #slowReaderMs: number;
  #timer: ReturnType<typeof setTimeout> | undefined;

  /** @param call That the sequence answers. */
  constructor(call: Admitted, slowReaderMs: number) {
    this.#call = call;
    this.#slowReaderMs = slowReaderMs;
  }

  /** The reader is behind until `reading` resolves. */
  watch(reading: Promise<void>): void {
    clearTimeout(this.#timer);
    const timer = setTimeout(() => this.#giveUp(), this.#slowReaderMs);
    this.#timer = timer;
    void reading.then(() => clearTimeout(timer));
  }

  /** Resolves with `reading`; rejects with the abort's reason when that comes first. */
  orGone(reading: Promise<void>): Promise<void> {
    const { signal } = this.#call;
    return new Promise((resolve, reject) => {
      const leave = () => reject(signal.reason);
      signal.addEventListener("abort", leave);
      if (signal.aborted) leave();
      void reading.then(resolve);
    });
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#timer);
  }

  #giveUp(): void {
    this.#call.abort(
      new MeshError(
        Code.resourceExhausted,
        `Cannot go on with the sequence: its reader took nothing for ${this.#slowReaderMs} ms`,
      ),
    );
  }
}

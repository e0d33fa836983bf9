/** Something a reader loops over that can be ended from outside. */
export interface Endable {
  end(): void;
}

/** Every subscription and watch of one bus; each ends with its signal, all with the bus. */
export class OpenStreams implements Disposable {
  readonly #open = new Set<Endable>();
  #disposed = false;

  /**
   * Makes a stream and ends it when `signal` aborts.
   *
   * @param make Gets what the stream must call once when it has ended.
   */
  add<S extends Endable>(
    signal: AbortSignal,
    make: (onEnd: () => void) => S,
  ): S {
    const onAbort = () => stream.end();
    const stream: S = make(() => {
      signal.removeEventListener("abort", onAbort);
      this.#open.delete(stream);
    });
    this.#open.add(stream);
    signal.addEventListener("abort", onAbort, { once: true });
    if (signal.aborted || this.#disposed) stream.end();
    return stream;
  }

  get count(): number {
    return this.#open.size;
  }

  [Symbol.dispose](): void {
    this.#disposed = true;
    for (const stream of [...this.#open]) stream.end();
  }
}

/**
 * Changes of named things for one reader, the newest of each.
 *
 * A slow reader skips states it would overwrite anyway, so the queue never holds more than one
 * change per name and nothing that matters is dropped.
 */
export class KeyedChanges<C extends { readonly kind: "put" | "gone" }>
  implements AsyncIterableIterator<C> {
  readonly #pending = new Map<string, C>();
  /** Names the reader knows; it never hears that a stranger is gone. */
  readonly #known = new Set<string>();
  readonly #keyOf: (change: C) => string;
  readonly #onEnd: () => void;
  #waiting: ((result: IteratorResult<C>) => void)[] = [];
  #ended = false;

  constructor(keyOf: (change: C) => string, onEnd: () => void) {
    this.#keyOf = keyOf;
    this.#onEnd = onEnd;
  }

  push(change: C): void {
    if (this.#ended) return;
    const key = this.#keyOf(change);
    this.#pending.delete(key);
    if (change.kind === "gone" && !this.#known.has(key)) return;
    this.#pending.set(key, change);
    const reader = this.#waiting.shift();
    if (reader) reader({ value: this.#take(), done: false });
  }

  end(): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#pending.clear();
    for (const reader of this.#waiting.splice(0)) {
      reader({ value: undefined, done: true });
    }
    this.#onEnd();
  }

  next(): Promise<IteratorResult<C>> {
    if (this.#pending.size > 0) {
      return Promise.resolve({ value: this.#take(), done: false });
    }
    if (this.#ended) return Promise.resolve({ value: undefined, done: true });
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  return(): Promise<IteratorResult<C>> {
    this.end();
    return Promise.resolve({ value: undefined, done: true });
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  #take(): C {
    const [[key, change]] = this.#pending;
    this.#pending.delete(key);
    if (change.kind === "put") this.#known.add(key);
    else this.#known.delete(key);
    return change;
  }
}

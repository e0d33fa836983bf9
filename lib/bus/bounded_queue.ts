export interface BoundedQueueOptions {
  /** Items kept for a slow reader. */
  readonly capacity: number;
  /** The oldest item was dropped to make room; `dropped` counts all so far. */
  readonly onDrop?: (dropped: number) => void;
  /** Called once, however it ends: by the reader, by `end()`. */
  readonly onEnd?: () => void;
}

/**
 * Items between a producer that never waits and a reader that may be slow.
 *
 * When full, the oldest item is dropped: the newest report says more than the oldest,
 * and numbered messages make the gap visible. Items that are queued when it ends are still read.
 */
export class BoundedQueue<T> implements AsyncIterableIterator<T> {
  #items: T[] = [];
  #head = 0;
  #dropped = 0;
  #ended = false;
  readonly #waiting: ((result: IteratorResult<T>) => void)[] = [];
  readonly #options: BoundedQueueOptions;

  constructor(options: BoundedQueueOptions) {
    if (!Number.isInteger(options.capacity) || options.capacity < 1) {
      throw new RangeError(
        `Cannot create a queue: capacity must be an integer >= 1, is ${options.capacity}`,
      );
    }
    this.#options = options;
  }

  get size(): number {
    return this.#items.length - this.#head;
  }

  get dropped(): number {
    return this.#dropped;
  }

  push(item: T): void {
    if (this.#ended) return;
    const reader = this.#waiting.shift();
    if (reader) return reader({ value: item, done: false });
    if (this.size === this.#options.capacity) {
      this.#shift();
      this.#options.onDrop?.(++this.#dropped);
    }
    this.#items.push(item);
  }

  end(): void {
    if (this.#ended) return;
    this.#ended = true;
    for (const reader of this.#waiting.splice(0)) {
      reader({ value: undefined, done: true });
    }
    this.#options.onEnd?.();
  }

  next(): Promise<IteratorResult<T>> {
    if (this.size > 0) {
      return Promise.resolve({ value: this.#shift(), done: false });
    }
    if (this.#ended) return Promise.resolve({ value: undefined, done: true });
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  /** The reader left its loop. */
  return(): Promise<IteratorResult<T>> {
    this.end();
    this.#items = [];
    this.#head = 0;
    return Promise.resolve({ value: undefined, done: true });
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  #shift(): T {
    const item = this.#items[this.#head];
    this.#items[this.#head++] = undefined as T;
    // Moving the rest only now and then keeps a shift O(1) on average.
    if (this.#head > 64 && this.#head * 2 > this.#items.length) {
      this.#items = this.#items.slice(this.#head);
      this.#head = 0;
    }
    return item;
  }
}

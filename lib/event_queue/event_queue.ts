/**
 * Events of one sequence on the way to its reader.
 *
 * It has no limit of its own: a sequence makes at most one event per token, and
 * its tokens are limited by the context length. Who needs a tighter one looks at
 * `unread`, as the decode link does.
 */
import { ok } from "node:assert/strict";

/** Push on one side, `for await` on the other. */
export class EventQueue<T> implements AsyncIterableIterator<T> {
  readonly #onReturn: () => void;
  #items: T[] = [];
  #read = 0;
  #reader: PromiseWithResolvers<IteratorResult<T>> | undefined;
  #closed = false;
  #failure: { readonly reason: unknown } | undefined;

  /** @param onReturn Told when the reader leaves before the end. */
  constructor(onReturn: () => void) {
    this.#onReturn = onReturn;
  }

  /** Items that the reader has not taken. */
  get unread(): number {
    return this.#items.length - this.#read;
  }

  push(item: T): void {
    if (this.#closed) return;
    if (this.#reader === undefined) this.#items.push(item);
    else this.#takeReader().resolve({ done: false, value: item });
  }

  /** Nothing follows. */
  end(): void {
    if (this.#closed) return;
    this.#closed = true;
    if (this.#reader) {
      this.#takeReader().resolve({ done: true, value: undefined });
    }
  }

  /** Nothing follows; the reader gets what is queued, then the reason. */
  fail(reason: unknown): void {
    if (this.#closed) return;
    this.#closed = true;
    if (this.#reader) this.#takeReader().reject(reason);
    else this.#failure = { reason };
  }

  next(): Promise<IteratorResult<T>> {
    if (this.#read < this.#items.length) {
      return Promise.resolve({ done: false, value: this.#shift() });
    }
    if (this.#failure) {
      const { reason } = this.#failure;
      this.#failure = undefined;
      return Promise.reject(reason);
    }
    if (this.#closed) return Promise.resolve({ done: true, value: undefined });
    ok(this.#reader === undefined, "one reader asks for one event at a time");
    this.#reader = Promise.withResolvers();
    return this.#reader.promise;
  }

  return(): Promise<IteratorResult<T>> {
    if (!this.#closed) this.#onReturn();
    this.end();
    this.#items = [];
    this.#read = 0;
    this.#failure = undefined;
    return Promise.resolve({ done: true, value: undefined });
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  #shift(): T {
    const item = this.#items[this.#read++];
    if (this.#read === this.#items.length) {
      this.#items = [];
      this.#read = 0;
    }
    return item;
  }

  #takeReader(): PromiseWithResolvers<IteratorResult<T>> {
    const reader = this.#reader!;
    this.#reader = undefined;
    return reader;
  }
}

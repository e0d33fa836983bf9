import { workerKey } from "./subjects.ts";
import type { WorkerChange } from "./types.ts";

/**
 * Changes of the workers for one reader, the newest of each worker.
 *
 * A slow reader skips states it would overwrite anyway, so the queue never holds more than one
 * change per worker and nothing that matters is dropped.
 */
export class WorkerChanges implements AsyncIterableIterator<WorkerChange> {
  readonly #pending = new Map<string, WorkerChange>();
  /** Workers the reader knows; it never hears that a stranger is gone. */
  readonly #known = new Set<string>();
  readonly #onEnd: () => void;
  #waiting: ((result: IteratorResult<WorkerChange>) => void)[] = [];
  #ended = false;

  constructor(onEnd: () => void) {
    this.#onEnd = onEnd;
  }

  push(change: WorkerChange): void {
    if (this.#ended) return;
    const key = keyOf(change);
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

  next(): Promise<IteratorResult<WorkerChange>> {
    if (this.#pending.size > 0) {
      return Promise.resolve({ value: this.#take(), done: false });
    }
    if (this.#ended) return Promise.resolve({ value: undefined, done: true });
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  return(): Promise<IteratorResult<WorkerChange>> {
    this.end();
    return Promise.resolve({ value: undefined, done: true });
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  #take(): WorkerChange {
    const [[key, change]] = this.#pending;
    this.#pending.delete(key);
    if (change.kind === "put") this.#known.add(key);
    else this.#known.delete(key);
    return change;
  }
}

function keyOf(change: WorkerChange): string {
  const { role, workerId } = change.kind === "put" ? change.record : change;
  return workerKey(role, workerId);
}

/**
 * Ids 0..total-1 in order of last use, as a doubly linked list in two arrays:
 * every operation takes constant time and allocates nothing.
 */
export class LruList {
  /** Entry `total` is the ring's head: next = oldest, previous = newest. */
  readonly #next: Int32Array;
  readonly #previous: Int32Array;
  readonly #head: number;
  #count = 0;

  constructor(total: number) {
    this.#head = total;
    this.#next = new Int32Array(total + 1).fill(-1);
    this.#previous = new Int32Array(total + 1).fill(-1);
    this.#next[total] = this.#previous[total] = total;
  }

  get count(): number {
    return this.#count;
  }

  has(id: number): boolean {
    return this.#next[id] !== -1;
  }

  get oldest(): number | undefined {
    return this.#count === 0 ? undefined : this.#next[this.#head];
  }

  /** Adds an id that is not listed, as the newest. */
  add(id: number): void {
    const newest = this.#previous[this.#head];
    this.#next[newest] = id;
    this.#previous[id] = newest;
    this.#next[id] = this.#head;
    this.#previous[this.#head] = id;
    this.#count++;
  }

  /** Removes a listed id. */
  remove(id: number): void {
    const next = this.#next[id];
    const previous = this.#previous[id];
    this.#next[previous] = next;
    this.#previous[next] = previous;
    this.#next[id] = this.#previous[id] = -1;
    this.#count--;
  }
}

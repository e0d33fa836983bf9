/** A binary heap of numbers, least first; it grows as needed and is reused. */
export class NumberHeap {
  #items = new Float64Array(64);
  #size = 0;

  get size(): number {
    return this.#size;
  }

  clear(): void {
    this.#size = 0;
  }

  push(item: number): void {
    if (this.#size === this.#items.length) this.#grow();
    const items = this.#items;
    let at = this.#size++;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (items[parent]! <= item) break;
      items[at] = items[parent]!;
      at = parent;
    }
    items[at] = item;
  }

  /** Takes the least; call only while `size` is not 0. */
  pop(): number {
    const items = this.#items;
    const least = items[0]!;
    const last = items[--this.#size]!;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= this.#size) break;
      if (child + 1 < this.#size && items[child + 1]! < items[child]!) child++;
      if (items[child]! >= last) break;
      items[at] = items[child]!;
      at = child;
    }
    items[at] = last;
    return least;
  }

  #grow(): void {
    const wider = new Float64Array(this.#items.length * 2);
    wider.set(this.#items);
    this.#items = wider;
  }
}

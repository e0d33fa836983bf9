/**
 * A hash table from a pair of ids to a rank and the merged id.
 *
 * Open addressing over one Int32Array, at most half full: a vocabulary has up to
 * 300,000 merges, and every byte of text asks here more than once.
 */
export class PairTable {
  /** Four numbers a slot: left, right, rank, merged; left is -1 when free. */
  readonly #slots: Int32Array;
  readonly #mask: number;

  constructor(capacity: number) {
    let size = 16;
    while (size < capacity * 2) size *= 2;
    this.#slots = new Int32Array(size * 4).fill(-1);
    this.#mask = size - 1;
  }

  /** Adds a pair; the first rank of a pair stays. */
  add(left: number, right: number, rank: number, merged: number): void {
    const at = this.find(left, right);
    if (this.#slots[at] !== -1) return;
    this.#slots.set([left, right, rank, merged], at);
  }

  /** Where the pair is, or the free slot where it would be. */
  find(left: number, right: number): number {
    const slots = this.#slots;
    let slot = hash(left, right) & this.#mask;
    for (;;) {
      const at = slot * 4;
      const found = slots[at]!;
      if (found === -1 || (found === left && slots[at + 1] === right)) {
        return at;
      }
      slot = (slot + 1) & this.#mask;
    }
  }

  /** Rank of the pair, -1 when it does not merge. */
  rank(left: number, right: number): number {
    return this.#slots[this.find(left, right) + 2]!;
  }

  merged(left: number, right: number): number {
    return this.#slots[this.find(left, right) + 3]!;
  }
}

function hash(left: number, right: number): number {
  const mixed = Math.imul(left, 0x9e3779b1) ^
    Math.imul(right + 0x7f4a7c15, 0x85ebca6b);
  return mixed ^ mixed >>> 15;
}

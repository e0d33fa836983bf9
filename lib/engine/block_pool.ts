/**
 * Fixed KV blocks of one worker, with their holders.
 *
 * Memory is cut into equal blocks at start, so a sequence grows by whole blocks
 * and nothing is ever moved. A block is free, or held by one or more sequences,
 * or set aside: held by nobody, yet kept for its content (the prefix cache decides
 * which). Invariant: free plus held plus set aside equals the total.
 */
import { ok } from "node:assert/strict";

export class BlockPool {
  readonly total: number;
  /** Stack of free ids: the last one out is the last one in, still warm. */
  readonly #free: Int32Array;
  readonly #holders: Int32Array;
  #freeCount: number;

  /** @param total Blocks that fit beside the weights; ids run from 0. */
  constructor(total: number) {
    if (!Number.isInteger(total) || total < 1) {
      throw new RangeError(
        `Cannot create a block pool: total must be an integer >= 1, is ${total}`,
      );
    }
    this.total = total;
    this.#free = Int32Array.from({ length: total }, (_, i) => total - 1 - i);
    this.#holders = new Int32Array(total);
    this.#freeCount = total;
  }

  get freeCount(): number {
    return this.#freeCount;
  }

  holders(blockId: number): number {
    return this.#holders[blockId];
  }

  /** A free block, with one holder now; `undefined` when none is free. */
  take(): number | undefined {
    if (this.#freeCount === 0) return undefined;
    const blockId = this.#free[--this.#freeCount];
    this.#holders[blockId] = 1;
    return blockId;
  }

  /** One holder more, of a block that is held or set aside. */
  hold(blockId: number): void {
    this.#holders[blockId]++;
  }

  /** One holder fewer; returns how many are left. A block without holders is set aside. */
  drop(blockId: number): number {
    ok(
      this.#holders[blockId] > 0,
      `block ${blockId} is dropped by nobody's holder`,
    );
    return --this.#holders[blockId];
  }

  /** Frees a block that is set aside. */
  free(blockId: number): void {
    ok(this.#holders[blockId] === 0, `block ${blockId} is freed while held`);
    ok(this.#freeCount < this.total, `block ${blockId} is freed twice`);
    this.#free[this.#freeCount++] = blockId;
  }
}

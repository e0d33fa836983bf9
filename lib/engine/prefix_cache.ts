/**
 * Full KV blocks by name, so that prompts with a common beginning share it.
 *
 * A block is private while it fills and belongs to one sequence. Once full it is
 * stored under its chained hash and never written again. When its last holder
 * leaves it stays, reclaimable, until `allocate()` finds no free block and takes
 * the one unused for longest. Invariants: a stored block's hash leads to that
 * block and no other; free + held + reclaimable = total.
 */
import { BlockPool } from "./block_pool.ts";
import { LruList } from "./lru_list.ts";

export interface CacheChange {
  readonly stored: readonly string[];
  readonly removed: readonly string[];
}

export class PrefixCache {
  readonly #pool: BlockPool;
  readonly #reclaimable: LruList;
  readonly #blockByHash = new Map<string, number>();
  readonly #hashByBlock: (string | undefined)[];
  /** What happened to each hash since the last `takeChange()`. */
  readonly #changed = new Map<string, "stored" | "removed">();

  constructor(blocksTotal: number) {
    this.#pool = new BlockPool(blocksTotal);
    this.#reclaimable = new LruList(blocksTotal);
    this.#hashByBlock = new Array(blocksTotal).fill(undefined);
  }

  get total(): number {
    return this.#pool.total;
  }

  get freeCount(): number {
    return this.#pool.freeCount;
  }

  /** Stored blocks that nobody holds. */
  get reclaimableCount(): number {
    return this.#reclaimable.count;
  }

  /** Blocks that `allocate()` can still give out. */
  get availableCount(): number {
    return this.#pool.freeCount + this.#reclaimable.count;
  }

  holders(blockId: number): number {
    return this.#pool.holders(blockId);
  }

  /** A private block with one holder; `undefined` when all are held. */
  allocate(): number | undefined {
    return this.#pool.take() ?? this.#reclaim();
  }

  /** The stored block of this name with one holder more, if there is one. */
  acquire(hash: string): number | undefined {
    const blockId = this.#blockByHash.get(hash);
    if (blockId === undefined) return undefined;
    if (this.#reclaimable.has(blockId)) this.#reclaimable.remove(blockId);
    this.#pool.hold(blockId);
    return blockId;
  }

  /**
   * One holder fewer. Release the end of a sequence first: then blocks near the
   * root, which more prompts share, are reclaimed last.
   */
  release(blockId: number): void {
    if (this.#pool.drop(blockId) > 0) return;
    if (this.#hashByBlock[blockId] === undefined) this.#pool.free(blockId);
    else this.#reclaimable.add(blockId);
  }

  /**
   * Stores a block that has become full. Returns the block to go on with: another
   * one when a sequence beside was first with the same content, then `blockId`
   * is released.
   */
  store(blockId: number, hash: string): number {
    const existing = this.acquire(hash);
    if (existing === undefined) {
      this.#blockByHash.set(hash, blockId);
      this.#hashByBlock[blockId] = hash;
      this.#note(hash, "stored");
      return blockId;
    }
    this.release(blockId);
    return existing;
  }

  /** Names of all stored blocks. */
  hashes(): string[] {
    return [...this.#blockByHash.keys()];
  }

  /** The net change since the last call; `undefined` when there is none. */
  takeChange(): CacheChange | undefined {
    if (this.#changed.size === 0) return undefined;
    const stored: string[] = [];
    const removed: string[] = [];
    for (const [hash, what] of this.#changed) {
      (what === "stored" ? stored : removed).push(hash);
    }
    this.#changed.clear();
    return { stored, removed };
  }

  #reclaim(): number | undefined {
    const blockId = this.#reclaimable.oldest;
    if (blockId === undefined) return undefined;
    this.#reclaimable.remove(blockId);
    const hash = this.#hashByBlock[blockId]!;
    this.#hashByBlock[blockId] = undefined;
    this.#blockByHash.delete(hash);
    this.#note(hash, "removed");
    this.#pool.free(blockId);
    return this.#pool.take();
  }

  /** Stored and removed between two reports (or the reverse) is no news. */
  #note(hash: string, what: "stored" | "removed"): void {
    const before = this.#changed.get(hash);
    if (before === undefined) this.#changed.set(hash, what);
    else if (before !== what) this.#changed.delete(hash);
  }
}

/**
 * Which rows the next step computes.
 *
 * Every running sequence that only lacks its newest token gets one row; what is
 * left of the step's budget goes to prompts, oldest first, in chunks. So decoding
 * never waits for a long prompt, and a prompt never waits for a gap in decoding.
 *
 * A sequence is admitted when the blocks of all its tokens can be had, and takes
 * them at once; only decoding takes further ones. When these run out the youngest
 * sequence gives all its blocks back and waits with its tokens, to be computed
 * again ("preemption by recompute"). The oldest is never made to wait by a
 * younger one, so somebody always moves on.
 *
 * Plain decisions over memory that `PrefixCache` counts: nothing here waits, and
 * nothing touches KV bytes. Invariants: `running` and `waiting` are in order of
 * arrival; a sequence outside `running` holds no blocks.
 */
import { blockTokens } from "./block_hash.ts";
import type { PrefixCache } from "./prefix_cache.ts";
import type { Sequence } from "./sequence.ts";

export interface SchedulerOptions {
  readonly cache: PrefixCache;
  /** Tokens per step; at least `runningMax`, so that all can decode together. */
  readonly rowsMax: number;
  readonly runningMax: number;
  readonly waitingMax: number;
}

export class Scheduler {
  readonly #cache: PrefixCache;
  readonly #rowsMax: number;
  readonly #runningMax: number;
  readonly #waitingMax: number;
  readonly running: Sequence[] = [];
  readonly waiting: Sequence[] = [];
  readonly #plan = new StepPlan();
  #admitted: Sequence[] = [];

  /** Times that a sequence gave up its blocks. */
  preemptionCount = 0;

  constructor(options: SchedulerOptions) {
    this.#cache = options.cache;
    this.#rowsMax = options.rowsMax;
    this.#runningMax = options.runningMax;
    this.#waitingMax = options.waitingMax;
  }

  /** Answers whether there was room in the waiting queue. */
  enqueue(sequence: Sequence): boolean {
    if (this.waiting.length >= this.#waitingMax) return false;
    this.waiting.push(sequence);
    return true;
  }

  /** Moves waiting sequences to `running`, oldest first; returns the new ones. */
  admit(): readonly Sequence[] {
    this.#admitted = [];
    while (this.waiting.length > 0 && this.running.length < this.#runningMax) {
      if (!this.#reserve(this.waiting[0])) break;
      const sequence = this.waiting.shift()!;
      sequence.phase = sequence.fetchKv === undefined ? "running" : "fetching";
      insertByOrder(this.running, sequence);
      this.#admitted.push(sequence);
    }
    return this.#admitted;
  }

  /** The next step; the same object each time, empty when nothing can run. */
  plan(): StepPlan {
    this.#plan.clear();
    // Preempting shortens `running` behind the index, or at it.
    for (let i = 0; i < this.running.length; i++) {
      const sequence = this.running[i];
      if (sequence.phase !== "running" || sequence.pendingCount !== 1) continue;
      if (this.#growTo(sequence)) this.#plan.add(sequence, 1);
      else i--;
    }
    for (let i = 0; i < this.running.length; i++) {
      const sequence = this.running[i];
      const rowsLeft = this.#rowsMax - this.#plan.rows;
      if (rowsLeft <= 0) break;
      if (sequence.phase !== "running" || sequence.pendingCount === 1) continue;
      this.#plan.add(sequence, Math.min(sequence.pendingCount, rowsLeft));
    }
    return this.#plan;
  }

  /** Whether `admit()` might let somebody in. */
  get mayAdmit(): boolean {
    return this.waiting.length > 0 && this.running.length < this.#runningMax;
  }

  /** Sequences that take part in steps. */
  get runningCount(): number {
    return this.running.filter(({ phase }) => phase === "running").length;
  }

  /**
   * Room for one token more than each of them has, for all or none; `false` when
   * blocks are short. Preempts nobody.
   */
  growAhead(sequences: readonly Sequence[]): boolean {
    const growing = sequences.filter(({ blockCount, tokenCount }) =>
      blockCount * blockTokens < tokenCount + 1
    );
    if (this.#cache.availableCount < growing.length) return false;
    for (const sequence of growing) sequence.addBlock(this.#cache.allocate()!);
    return true;
  }

  /** The KV of `count` more tokens is in the sequence's blocks; full ones are stored. */
  advance(sequence: Sequence, count: number): void {
    sequence.kvCount += count;
    const fullCount = Math.floor(sequence.kvCount / blockTokens);
    while (sequence.storedCount < fullCount) {
      const index = sequence.storedCount++;
      sequence.blocks[index] = this.#cache.store(
        sequence.blocks[index],
        sequence.hash(index),
      );
    }
  }

  /** Takes a sequence out, wherever it is, and frees the blocks it still has. */
  end(sequence: Sequence): void {
    removeFrom(
      sequence.phase === "waiting" ? this.waiting : this.running,
      sequence,
    );
    sequence.phase = "ended";
    this.#releaseBlocks(sequence);
  }

  #reserve(sequence: Sequence): boolean {
    const cache = this.#cache;
    // One spare block for each that runs: who is let in should not be thrown out
    // by the very next steps.
    const spare = this.running.length;
    if (spare > 0 && cache.availableCount < sequence.blocksWanted) return false;
    this.#acquireCached(sequence);
    const needed = Math.ceil(sequence.tokenCount / blockTokens) -
      sequence.blockCount;
    if (cache.availableCount < needed + spare) {
      sequence.blocksWanted = needed + spare;
      this.#releaseBlocks(sequence);
      return false;
    }
    sequence.blocksWanted = 0;
    for (let i = 0; i < needed; i++) sequence.addBlock(cache.allocate()!);
    return true;
  }

  /** The last token is always computed: its logits choose the next one. */
  #acquireCached(sequence: Sequence): void {
    const countMax = Math.floor((sequence.tokenCount - 1) / blockTokens);
    for (let i = 0; i < countMax; i++) {
      const blockId = this.#cache.acquire(sequence.hash(i));
      if (blockId === undefined) break;
      sequence.addBlock(blockId);
    }
    sequence.storedCount = sequence.blockCount;
    sequence.kvCount = sequence.blockCount * blockTokens;
  }

  /** Room for one more token; `false` when the sequence itself was preempted. */
  #growTo(sequence: Sequence): boolean {
    while (sequence.blockCount * blockTokens < sequence.tokenCount) {
      const blockId = this.#cache.allocate();
      if (blockId !== undefined) {
        sequence.addBlock(blockId);
        continue;
      }
      const victim = this.#youngest();
      this.#preempt(victim);
      if (victim === sequence) return false;
    }
    return true;
  }

  /** Blocks of a fetching sequence may be written from outside: they stay. */
  #youngest(): Sequence {
    return this.running.findLast((sequence) => sequence.phase === "running")!;
  }

  #preempt(victim: Sequence): void {
    removeFrom(this.running, victim);
    this.#releaseBlocks(victim);
    victim.phase = "waiting";
    victim.preemptions++;
    this.preemptionCount++;
    insertByOrder(this.waiting, victim);
  }

  #releaseBlocks(sequence: Sequence): void {
    for (let i = sequence.blockCount - 1; i >= 0; i--) {
      this.#cache.release(sequence.blocks[i]);
    }
    sequence.blockCount = sequence.storedCount = sequence.kvCount = 0;
  }
}

/** Sequences of one step and the rows of each: `rowCounts[i]` for `sequences[i]`. */
export class StepPlan {
  readonly sequences: Sequence[] = [];
  readonly rowCounts: number[] = [];
  /** Of a step planned ahead: the out row before it that chooses each one's token. */
  readonly outRowsBefore: number[] = [];
  rows = 0;

  add(sequence: Sequence, rowCount: number, outRowBefore?: number): void {
    this.sequences.push(sequence);
    this.rowCounts.push(rowCount);
    if (outRowBefore !== undefined) this.outRowsBefore.push(outRowBefore);
    this.rows += rowCount;
  }

  /** Whether all rows take their token from the step before. */
  get isAhead(): boolean {
    return this.outRowsBefore.length > 0;
  }

  clear(): void {
    this.sequences.length = this.rowCounts.length = this.rows = 0;
  }
}

/** From the end, where newcomers belong. */
function insertByOrder(list: Sequence[], sequence: Sequence): void {
  let index = list.length;
  while (index > 0 && list[index - 1].order > sequence.order) index--;
  list.splice(index, 0, sequence);
}

function removeFrom(list: Sequence[], sequence: Sequence): void {
  const index = list.indexOf(sequence);
  if (index >= 0) list.splice(index, 1);
}

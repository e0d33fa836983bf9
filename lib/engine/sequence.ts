/** One sequence on its way through the scheduler. */
import { blockTokens, HashChain } from "./block_hash.ts";
import { SamplerState } from "./sampler_state.ts";
import type { EngineToken, KvFetcher, SequenceSpec } from "./types.ts";

/**
 * `waiting`: holds no blocks. `fetching`: its blocks are written from outside.
 * `running`: takes part in steps. `ended`: left the scheduler.
 */
export type SequencePhase = "waiting" | "fetching" | "running" | "ended";

/** Who wants the results: a `generate()`, `prefill()` or `embed()` call. */
export interface SequenceOwner {
  /** Whether `chosen` is told the hidden state of the row that chose. */
  readonly wantsHidden?: boolean;
  /** The KV of more tokens is complete; cached blocks count. */
  progressed(sequence: Sequence): void;
  /** A token was chosen. Answers whether the sequence goes on. */
  chosen(sequence: Sequence, token: EngineToken, step: StepFacts): boolean;
  /** Passes on what was chosen; while the next step runs, so it may take its time. */
  deliver?(): void;
  /** The last word when the sequence did not come to its end. */
  failed(reason: unknown): void;
}

export interface StepFacts {
  /** Sequences that ran in the step. */
  readonly batchSize: number;
  readonly stepUs: number;
  /** f32 [hiddenSize], for an owner that wants it */
  readonly hidden?: Float32Array;
}

export interface SequenceOptions {
  /** Grows with each arrival; who came first goes first. */
  readonly order: number;
  readonly spec: SequenceSpec;
  readonly fingerprint: string;
  readonly owner: SequenceOwner;
  readonly fetchKv?: KvFetcher;
  readonly arrivedMs: number;
}

export class Sequence {
  readonly order: number;
  readonly spec: SequenceSpec;
  readonly owner: SequenceOwner;
  readonly sampler: SamplerState;
  readonly promptCount: number;
  /** Prompt and emitted ids: what must be in the KV before the first new token. */
  readonly givenCount: number;

  phase: SequencePhase = "waiting";
  /** Prompt, then output; the first `tokenCount` entries count. */
  tokens: Int32Array;
  tokenCount: number;
  /** Leading tokens whose KV exists. */
  kvCount = 0;
  /** Block ids; the first `blockCount` entries count. */
  blocks: Int32Array;
  blockCount = 0;
  /** Leading blocks that are in the prefix cache. */
  storedCount = 0;

  cachedTokens = 0;
  transferredTokens = 0;
  preemptions = 0;
  /** Blocks that were missing at the last try to admit it. */
  blocksWanted = 0;
  /** Taken away at its first admission: a sequence fetches once. */
  fetchKv: KvFetcher | undefined;
  cancelled = false;
  /** Called once, when it leaves the scheduler. */
  onEnd: (() => void) | undefined;

  readonly arrivedMs: number;
  admittedMs: number | undefined;

  readonly #chain: HashChain;
  readonly #hashes: string[] = [];

  constructor(options: SequenceOptions) {
    const { spec } = options;
    this.order = options.order;
    this.spec = spec;
    this.owner = options.owner;
    this.fetchKv = options.fetchKv;
    this.arrivedMs = options.arrivedMs;
    this.promptCount = spec.promptIds.length;
    this.givenCount = this.promptCount + spec.emittedIds.length;
    this.sampler = new SamplerState(
      spec.sampling,
      spec.promptIds,
      spec.emittedIds,
    );
    this.tokens = new Int32Array(this.givenCount + 64);
    this.tokens.set(spec.promptIds);
    this.tokens.set(spec.emittedIds, this.promptCount);
    this.tokenCount = this.givenCount;
    this.blocks = new Int32Array(Math.ceil(this.tokens.length / blockTokens));
    this.#chain = new HashChain(options.fingerprint);
  }

  /** Tokens behind the prompt, those of an earlier worker too. */
  get outputCount(): number {
    return this.tokenCount - this.promptCount;
  }

  /** Tokens whose KV is missing: 1 while it decodes, more while its prompt runs. */
  get pendingCount(): number {
    return this.tokenCount - this.kvCount;
  }

  addToken(tokenId: number): void {
    if (this.tokenCount === this.tokens.length) {
      const tokens = new Int32Array(2 * this.tokens.length);
      tokens.set(this.tokens);
      this.tokens = tokens;
    }
    this.tokens[this.tokenCount++] = tokenId;
    this.sampler.chosen(tokenId);
  }

  addBlock(blockId: number): void {
    if (this.blockCount === this.blocks.length) {
      const blocks = new Int32Array(2 * this.blocks.length);
      blocks.set(this.blocks);
      this.blocks = blocks;
    }
    this.blocks[this.blockCount++] = blockId;
  }

  /** Name of its full block `index`; all tokens of the block are known. */
  hash(index: number): string {
    while (this.#hashes.length <= index) {
      this.#hashes.push(
        this.#chain.next(this.tokens, this.#hashes.length * blockTokens),
      );
    }
    return this.#hashes[index];
  }
}

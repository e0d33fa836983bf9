/** A `prefill()` call: one prompt, its KV and the first token. */
import { blockTokens } from "./block_hash.ts";
import type { Sequence, SequenceOwner } from "./sequence.ts";
import type {
  EngineToken,
  PrefillProgress,
  PrefillResult,
  PromptKv,
} from "./types.ts";

export interface PromptRunOptions {
  readonly now: () => number;
  readonly onBlocks?: (progress: PrefillProgress) => void;
  /** Bytes of a block of the pool. */
  readonly blockBytes: (blockId: number) => Uint8Array;
  /** Gives one holder of a block back. */
  readonly release: (blockIds: Int32Array) => void;
}

export class PromptRun implements SequenceOwner {
  readonly result: Promise<PrefillResult>;
  readonly #settle = Promise.withResolvers<PrefillResult>();
  readonly #options: PromptRunOptions;
  /** Blocks that `onBlocks` was told about; a preemption does not repeat them. */
  #reportedCount = 0;

  constructor(options: PromptRunOptions) {
    this.#options = options;
    this.result = this.#settle.promise;
  }

  progressed(sequence: Sequence): void {
    const { onBlocks, blockBytes } = this.#options;
    const end = sequence.pendingCount === 0
      ? Math.ceil(sequence.tokenCount / blockTokens)
      : Math.floor(sequence.kvCount / blockTokens);
    const begin = this.#reportedCount;
    if (end <= begin) return;
    this.#reportedCount = end;
    onBlocks?.({
      begin,
      end,
      blockBytes: (index) => blockBytes(sequence.blocks[index]),
    });
  }

  chosen(sequence: Sequence, firstToken: EngineToken): boolean {
    const admittedMs = sequence.admittedMs ?? sequence.arrivedMs;
    this.#settle.resolve({
      kv: this.#takeBlocks(sequence),
      firstToken,
      stopped: sequence.sampler.isStop(firstToken.id),
      cachedTokens: sequence.cachedTokens,
      computedTokens: sequence.givenCount - sequence.cachedTokens,
      queueUs: Math.round(1000 * (admittedMs - sequence.arrivedMs)),
      computeUs: Math.round(1000 * (this.#options.now() - admittedMs)),
    });
    return false;
  }

  failed(reason: unknown): void {
    this.#settle.reject(reason);
  }

  /** From the sequence, which ends now, to the caller. */
  #takeBlocks(sequence: Sequence): PromptKv {
    const blockIds = sequence.blocks.slice(0, sequence.blockCount);
    const { blockBytes, release } = this.#options;
    let held = true;
    sequence.blockCount = 0;
    return {
      tokenCount: sequence.tokenCount,
      blockCount: blockIds.length,
      blockBytes(index) {
        if (!held || index < 0 || index >= blockIds.length) {
          const found = held
            ? `index ${index} of ${blockIds.length}`
            : "a disposed PromptKv";
          throw new RangeError(
            `Cannot read a KV block: needs a held block, found ${found}`,
          );
        }
        return blockBytes(blockIds[index]);
      },
      [Symbol.dispose]() {
        if (held) release(blockIds);
        held = false;
      },
    };
  }
}

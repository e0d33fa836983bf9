/**
 * Sends the blocks of one prompt, in order, as they become complete.
 *
 * While the prompt is computed, blocks leave as long as the network takes them:
 * at most `bufferBytesMax` are copied ahead. A reader that is slower than the
 * engine costs no more memory than that: what it has not taken when the prompt is
 * finished is read from the finished prompt's own blocks, which stay until then.
 *
 * Into memory that the reader shares, blocks are copied at once and only announced. Where
 * that has no room, the rest goes through the network.
 */
import type {
  KvBlock,
  KvSharedBlocks,
} from "../../proto/gen/quetzal/v1/prefill.ts";
import { FaultyBlocks, type PlannedFault } from "./faults.ts";
import type { KvLayout } from "./types.ts";
import type { SharedRun } from "./shared_writer.ts";
import { type Crc32c, encodeBlock } from "./wire_block.ts";

export interface BlockSenderOptions {
  readonly layout: KvLayout;
  /** Tokens of the whole sequence. */
  readonly tokenCount: number;
  /** Leading tokens the receiver has, a multiple of blockTokens. */
  readonly haveTokens: number;
  readonly sink: BlockSink;
  readonly crc32c: Crc32c;
  /** Copied ahead of the network while the prompt is computed. */
  readonly bufferBytesMax: number;
  readonly signal: AbortSignal;
  /** Memory that the reader shares. */
  readonly shared?: SharedRun;
  /** A deliberate fault, which hits blocks on the network only; see faults.ts. */
  readonly fault: PlannedFault | undefined;
  /** Ends the process; only the fault "death" calls it. */
  readonly die: () => void;
}

export interface BlockSink {
  /** Copies the block before it returns. */
  write(block: KvBlock): Promise<void> | undefined;
  /** Blocks lie in shared memory; called only when there is some. */
  announce?(blocks: KvSharedBlocks): void;
  /** Blocks handed over and not yet taken by the network. */
  readonly pending: number;
}

/** Blocks that are complete and may be read now. */
export interface BlockSource {
  blockBytes(index: number): Uint8Array;
}

export class BlockSender {
  readonly #options: BlockSenderOptions;
  readonly #faulty: FaultyBlocks | undefined;
  readonly #pendingMax: number;
  #shared: SharedRun | undefined;
  #nextBlock: number;
  #blocks = 0;
  #halt: "stall" | "error" | "death" | undefined;

  constructor(options: BlockSenderOptions) {
    const { layout, haveTokens, bufferBytesMax, fault } = options;
    this.#options = options;
    this.#faulty = fault && new FaultyBlocks(fault);
    this.#shared = fault === undefined ? options.shared : undefined;
    this.#nextBlock = haveTokens / layout.blockTokens;
    this.#pendingMax = Math.max(
      2,
      Math.floor(bufferBytesMax / layout.blockBytes),
    );
  }

  /** Blocks sent. */
  get blocks(): number {
    return this.#blocks;
  }

  get bytes(): number {
    return this.#blocks * this.#options.layout.blockBytes;
  }

  /** Set once a deliberate fault has ended the transfer. */
  get halted(): boolean {
    return this.#halt !== undefined;
  }

  /** Blocks below `end` are complete; sends what fits the buffer, never waits. */
  offer(source: BlockSource, end: number): void {
    while (
      this.#nextBlock < end && this.#halt === undefined &&
      (this.#shared !== undefined ||
        this.#options.sink.pending < this.#pendingMax)
    ) {
      this.#sendNext(source);
    }
    this.#announce();
  }

  /** Sends everything that is left, at the pace of the reader. */
  async finish(source: BlockSource): Promise<void> {
    const { layout, tokenCount, signal } = this.#options;
    const end = Math.ceil(tokenCount / layout.blockTokens);
    while (this.#nextBlock < end && this.#halt === undefined) {
      signal.throwIfAborted();
      await this.#sendNext(source);
    }
    this.#announce();
    if (this.#halt !== undefined) await this.#playDead(this.#halt);
  }

  #sendNext(source: BlockSource): Promise<void> | undefined {
    const { layout, sink, crc32c } = this.#options;
    const blockIndex = this.#nextBlock++;
    const tokenCount = Math.min(
      layout.blockTokens,
      this.#options.tokenCount - blockIndex * layout.blockTokens,
    );
    if (this.#shared !== undefined) {
      const payload = source.blockBytes(blockIndex);
      if (this.#shared.add(blockIndex, tokenCount, payload)) {
        this.#blocks++;
        return undefined;
      }
      this.#announce();
      this.#shared = undefined;
    }
    const block = encodeBlock(layout, {
      blockIndex,
      tokenCount,
      // A deliberate fault may hold a block back longer than it lives.
      payload: this.#faulty
        ? Buffer.from(source.blockBytes(blockIndex))
        : source.blockBytes(blockIndex),
    }, crc32c);
    if (this.#faulty === undefined) {
      this.#blocks++;
      return sink.write(block);
    }
    const { blocks, then } = this.#faulty.next(block);
    if (then !== "go-on") this.#halt = then;
    this.#blocks += blocks.length;
    let slow: Promise<void> | undefined;
    for (const each of blocks) slow = sink.write(each);
    return slow;
  }

  #announce(): void {
    const blocks = this.#shared?.take();
    if (blocks !== undefined) this.#options.sink.announce?.(blocks);
  }

  async #playDead(halt: "stall" | "error" | "death"): Promise<void> {
    if (halt === "error") throw new Error("Injected fault in a KV transfer");
    if (halt === "death") this.#options.die();
    const { signal } = this.#options;
    if (!signal.aborted) {
      await new Promise((resolve) =>
        signal.addEventListener("abort", resolve, { once: true })
      );
    }
    signal.throwIfAborted();
  }
}

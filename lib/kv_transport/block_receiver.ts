import type { KvBlock } from "../../proto/gen/quetzal/v1/prefill.ts";
import type { KvLayout } from "./types.ts";
import { type BlockFault, type Crc32c, verifyBlock } from "./wire_block.ts";

/**
 * Takes the blocks of one transfer, in order, and copies the good ones into place.
 *
 * Invariant: `tokens` counts only leading tokens whose blocks were verified, so
 * whoever stops here at any moment may use exactly that many.
 */
export class BlockReceiver {
  readonly #options: ReceiverOptions;
  #nextBlock: number;
  #blocks = 0;

  constructor(options: ReceiverOptions) {
    this.#options = options;
    this.#nextBlock = options.haveTokens / options.layout.blockTokens;
  }

  /** `undefined` when the block was good and is in place now. */
  accept(block: KvBlock): BlockFault | undefined {
    const blockIndex = this.#nextBlock;
    const fault = this.#verify(block);
    if (fault === undefined) {
      this.#options.blockBytes(blockIndex).set(block.payload);
      this.#count();
    }
    return fault;
  }

  /**
   * As `accept()`, of a block whose bytes `read` puts into place, which saves a copy of a
   * block that comes from shared memory. What was there is lost when the block is bad; it
   * counts for nothing, and whoever computes the block writes over it.
   */
  acceptFrom(
    header: Omit<KvBlock, "payload">,
    read: (target: Uint8Array) => void,
  ): BlockFault | undefined {
    const { tokenCount, layout, blockBytes } = this.#options;
    // Behind the end there is no place to read into.
    const isInside = this.#nextBlock * layout.blockTokens < tokenCount;
    const payload = isInside ? blockBytes(this.#nextBlock) : nothing;
    if (isInside) read(payload);
    const fault = this.#verify({ ...header, payload });
    if (fault === undefined) this.#count();
    return fault;
  }

  #count(): void {
    this.#nextBlock++;
    this.#blocks++;
  }

  #verify(block: KvBlock): BlockFault | undefined {
    const { layout, tokenCount, crc32c } = this.#options;
    const blockIndex = this.#nextBlock;
    const begin = blockIndex * layout.blockTokens;
    if (begin >= tokenCount) {
      return {
        reason: "block_index",
        message: `Cannot use KV block ${block.blockIndex}: ` +
          `the sequence ends before block ${blockIndex}`,
      };
    }
    return verifyBlock(block, {
      layout,
      blockIndex,
      tokenCount: Math.min(layout.blockTokens, tokenCount - begin),
    }, crc32c);
  }

  /** Leading tokens whose KV is complete. */
  get tokens(): number {
    const { layout, tokenCount } = this.#options;
    return Math.min(this.#nextBlock * layout.blockTokens, tokenCount);
  }

  get complete(): boolean {
    return this.tokens === this.#options.tokenCount;
  }

  /** Blocks taken. */
  get blocks(): number {
    return this.#blocks;
  }

  get bytes(): number {
    return this.#blocks * this.#options.layout.blockBytes;
  }
}

const nothing = new Uint8Array(0);

export interface ReceiverOptions {
  readonly layout: KvLayout;
  /** Tokens of the whole sequence. */
  readonly tokenCount: number;
  /** A multiple of blockTokens, at most tokenCount. */
  readonly haveTokens: number;
  blockBytes(index: number): Uint8Array;
  readonly crc32c: Crc32c;
}

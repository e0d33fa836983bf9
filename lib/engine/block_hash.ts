/**
 * Names of full KV blocks.
 *
 * A block's KV depends on every token before it, so its name chains: sha256 over
 * the name of the block before and the ids of this one, starting from the model's
 * fingerprint. Equal names mean equal KV on every worker of the model. 128 bits
 * are kept: a prompt made to collide with another one's prefix would cost 2^64
 * hashes.
 */
import { createHash } from "node:crypto";

/** Tokens in a block. */
export const blockTokens = 16;

const nameBytes = 16;

/** Names the blocks of one sequence, one after another. */
export class HashChain {
  /** Name of the block before, then 16 ids, little-endian. */
  readonly #input = new Uint8Array(nameBytes + 4 * blockTokens);
  readonly #ids = new DataView(this.#input.buffer, nameBytes);

  constructor(fingerprint: string) {
    this.#advance(createHash("sha256").update(fingerprint).digest());
  }

  /** The name of the block that holds ids [begin, begin + blockTokens). */
  next(tokenIds: Int32Array, begin: number): string {
    for (let i = 0; i < blockTokens; i++) {
      this.#ids.setInt32(4 * i, tokenIds[begin + i], true);
    }
    const digest = createHash("sha256").update(this.#input).digest();
    this.#advance(digest);
    return digest.toString("hex", 0, nameBytes);
  }

  #advance(digest: Uint8Array): void {
    this.#input.set(digest.subarray(0, nameBytes));
  }
}

/** Names of all full blocks of a prompt, in order; 32 hex digits each. */
export function blockHashes(
  fingerprint: string,
  tokenIds: Int32Array,
): string[] {
  const chain = new HashChain(fingerprint);
  const count = Math.floor(tokenIds.length / blockTokens);
  return Array.from(
    { length: count },
    (_, i) => chain.next(tokenIds, i * blockTokens),
  );
}

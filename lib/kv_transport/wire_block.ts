/**
 * The wire form of one KV block, format version 1.
 *
 * Header and payload travel in one message; every header field is checked, and
 * then the checksum, before a byte of the payload is used. Wrong KV does not
 * crash a model, it makes it talk nonsense, so this is the only line of defence.
 */
import { type KvBlock, KvDtype } from "../../proto/gen/quetzal/v1/prefill.ts";
import type { KvType } from "../engine/native.ts";
import type { KvLayout } from "./types.ts";

export const wireFormatVersion = 1;

/** How messages say what an engine's blocks hold. */
export const kvDtypes: Record<KvType, KvDtype> = {
  f16: KvDtype.KV_DTYPE_F16,
  q8_0: KvDtype.KV_DTYPE_Q8_0,
};

/** CRC-32C (Castagnoli) of bytes, as an unsigned 32-bit number. */
export type Crc32c = (bytes: Uint8Array) => number;

/** Wraps `payload`, which is kept, not copied: it must stay as it is until sent. */
export function encodeBlock(
  layout: KvLayout,
  { blockIndex, tokenCount, payload }: {
    blockIndex: number;
    /** Tokens filled; fewer than `blockTokens` only in the last block. */
    tokenCount: number;
    payload: Uint8Array;
  },
  crc32c: Crc32c,
): KvBlock {
  return {
    formatVersion: wireFormatVersion,
    modelFingerprint: layout.fingerprint,
    dtype: kvDtypes[layout.kvType],
    blockIndex,
    layerBegin: 0,
    layerEnd: layout.layers,
    tokenCount,
    byteLength: payload.length,
    crc32c: crc32c(payload),
    payload,
  };
}

export type BlockFaultReason =
  | "format_version"
  | "fingerprint"
  | "dtype"
  | "block_index"
  | "layers"
  | "token_count"
  | "byte_length"
  | "checksum";

/** What was wrong with a block. */
export interface BlockFault {
  readonly reason: BlockFaultReason;
  readonly message: string;
}

/**
 * `undefined` when the block is the one expected, whole and intact. The cheap
 * checks come first; the checksum is only computed over the right number of bytes.
 */
export function verifyBlock(
  block: KvBlock,
  { layout, blockIndex, tokenCount }: {
    layout: KvLayout;
    blockIndex: number;
    tokenCount: number;
  },
  crc32c: Crc32c,
): BlockFault | undefined {
  const fault = (
    reason: BlockFaultReason,
    needed: unknown,
    found: unknown,
  ) => ({
    reason,
    message:
      `Cannot use KV block ${blockIndex}: ${reason} must be ${needed}, is ${found}`,
  });
  if (block.formatVersion !== wireFormatVersion) {
    return fault("format_version", wireFormatVersion, block.formatVersion);
  }
  if (block.modelFingerprint !== layout.fingerprint) {
    return fault("fingerprint", layout.fingerprint, block.modelFingerprint);
  }
  if (block.dtype !== kvDtypes[layout.kvType]) {
    return fault("dtype", kvDtypes[layout.kvType], block.dtype);
  }
  if (block.blockIndex !== blockIndex) {
    return fault("block_index", blockIndex, block.blockIndex);
  }
  if (block.layerBegin !== 0 || block.layerEnd !== layout.layers) {
    const found = `${block.layerBegin}..${block.layerEnd}`;
    return fault("layers", `0..${layout.layers}`, found);
  }
  if (block.tokenCount !== tokenCount) {
    return fault("token_count", tokenCount, block.tokenCount);
  }
  if (
    block.byteLength !== layout.blockBytes ||
    block.payload.length !== layout.blockBytes
  ) {
    const found = `${block.byteLength} (${block.payload.length} came)`;
    return fault("byte_length", layout.blockBytes, found);
  }
  const checksum = crc32c(block.payload);
  if (checksum !== block.crc32c) {
    return fault("checksum", block.crc32c, checksum);
  }
  return undefined;
}

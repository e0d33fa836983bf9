import { type Env, readConfig } from "../../lib/config/mod.ts";
import { readWorkerConfig, type WorkerConfig } from "../../lib/worker/mod.ts";

export interface DecodeConfig extends WorkerConfig {
  /** A KV transfer that is silent for this long is given up. */
  readonly kvStallMs: number;
  /** So is one that lives but brings no block for this long. */
  readonly kvBlockWaitMs: number;
  /** Of the file that is shared with one prefill worker; sparse. */
  readonly kvSharedBytes: number;
  /** Prompts with fewer tokens left to compute are computed here. */
  readonly remoteTokensMin: number;
  /** A reader that takes nothing for this long loses its sequence. */
  readonly slowReaderMs: number;
  /** Longest time a token of a crowded step waits for those behind it; 0: none waits. */
  readonly tokenWaitMs: number;
  /** Sequences in a step from which its tokens wait. */
  readonly tokenWaitBatch: number;
}

/** Reads a plain record; all faults are reported together. */
export function parseConfig(env: Env): DecodeConfig {
  const options = { what: "the decode worker", env, prefix: "QUETZAL_DECODE_" };
  return readConfig(options, (reader) => ({
    ...readWorkerConfig(reader, { role: "decode", portDefault: 50_062 }),
    kvStallMs: reader.durationMs("QUETZAL_KV_STALL", [50, 600_000], 2_000),
    kvBlockWaitMs: reader.durationMs(
      "QUETZAL_KV_BLOCK_WAIT",
      [50, 3_600_000],
      30_000,
    ),
    kvSharedBytes: reader.bytes(
      "QUETZAL_KV_SHARED_BYTES",
      [1 << 16, 2 ** 40],
      256 << 20,
    ),
    remoteTokensMin: reader.integer("QUETZAL_DECODE_REMOTE_TOKENS_MIN", [
      1,
      2 ** 20,
    ], 16),
    slowReaderMs: reader.durationMs("QUETZAL_DECODE_SLOW_READER", [
      100,
      600_000,
    ], 10_000),
    tokenWaitMs: reader.durationMs("QUETZAL_DECODE_TOKEN_WAIT", [0, 1_000], 40),
    tokenWaitBatch: reader.integer("QUETZAL_DECODE_TOKEN_WAIT_BATCH", [
      2,
      4_096,
    ], 16),
  }));
}

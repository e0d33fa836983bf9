/** Batches for tests, from sequences as a person thinks of them. */
import {
  type Batch,
  samplingFloatWords,
  samplingIntWords,
} from "../../lib/engine/native.ts";

export interface TestSequence {
  readonly tokenIds: ArrayLike<number>;
  /** Tokens whose KV is there. */
  readonly kvBefore?: number;
  readonly blocks?: ArrayLike<number>;
  /** Rows (of this sequence) whose logits are wanted; all when absent. */
  readonly outRows?: readonly number[];
}

export interface TestSampling {
  topK?: number;
  topLogprobs?: number;
  seed?: bigint;
  draw?: number;
  temperature?: number;
  topP?: number;
  minP?: number;
  presence?: number;
  frequency?: number;
  repetition?: number;
  /** Token id and its occurrences in the output. */
  history?: readonly (readonly [number, number])[];
  bias?: readonly (readonly [number, number])[];
}

/** `vocab` > 0 asks for the raw logits. */
export function makeBatch(
  sequences: readonly TestSequence[],
  { vocab = 0, sampling = {}, blockTokens = 16 }: {
    vocab?: number;
    sampling?: TestSampling | readonly TestSampling[];
    blockTokens?: number;
  } = {},
): Batch & { logits?: Float32Array } {
  const tokenIds: number[] = [],
    positions: number[] = [],
    blockTables: number[] = [];
  const sequenceTable: number[] = [], outRowIndex: number[] = [];
  for (
    const { tokenIds: ids, kvBefore = 0, blocks = [], outRows } of sequences
  ) {
    const count = ids.length, first = tokenIds.length;
    sequenceTable.push(first, count, kvBefore, blockTables.length);
    const needed = Math.ceil((kvBefore + count) / blockTokens);
    blockTables.push(
      ...Array.from({ length: needed }, (_, i) => blocks[i] ?? i),
    );
    for (let i = 0; i < count; i++) {
      tokenIds.push(ids[i]);
      positions.push(kvBefore + i);
      if (outRows?.includes(i) ?? true) outRowIndex.push(first + i);
    }
  }
  const outRows = outRowIndex.length;
  return {
    rows: tokenIds.length,
    sequences: sequences.length,
    outRows,
    tokenIds: Int32Array.from(tokenIds),
    positions: Int32Array.from(positions),
    sequenceTable: Int32Array.from(sequenceTable),
    blockTables: Int32Array.from(blockTables),
    outRowIndex: Int32Array.from(outRowIndex),
    ...samplingArrays(
      outRows,
      Array.isArray(sampling) ? sampling : Array(outRows).fill(sampling),
    ),
    ...(vocab > 0
      ? { logits: new Float32Array(outRows * vocab).fill(NaN) }
      : {}),
  };
}

function samplingArrays(outRows: number, all: readonly TestSampling[]) {
  const samplingInts = new Int32Array(outRows * samplingIntWords);
  const samplingFloats = new Float32Array(outRows * samplingFloatWords);
  const history: number[] = [],
    biasIds: number[] = [],
    biasValues: number[] = [];
  for (let row = 0; row < outRows; row++) {
    const s = all[row], seed = s.seed ?? 0n;
    samplingInts.set([
      s.topK ?? 0,
      s.topLogprobs ?? -1,
      Number(seed & 0xffffffffn) | 0,
      Number(seed >> 32n) | 0,
      s.draw ?? 0,
      history.length / 2,
      s.history?.length ?? 0,
      biasIds.length,
      s.bias?.length ?? 0,
      0,
    ], row * samplingIntWords);
    samplingFloats.set([
      s.temperature ?? 0,
      s.topP ?? 1,
      s.minP ?? 0,
      s.presence ?? 0,
      s.frequency ?? 0,
      s.repetition ?? 1,
    ], row * samplingFloatWords);
    for (const entry of s.history ?? []) history.push(...entry);
    for (const [id, value] of s.bias ?? []) {
      biasIds.push(id);
      biasValues.push(value);
    }
  }
  return {
    samplingInts,
    samplingFloats,
    history: Int32Array.from(history),
    biasIds: Int32Array.from(biasIds),
    biasValues: Float32Array.from(biasValues),
  };
}

/** Log-probabilities of given text, straight through a native model. */
import { blockTokens } from "../block_hash.ts";
import { type Batch, samplingFloatWords, samplingIntWords } from "../native.ts";
import type { NativeModel } from "../native.ts";
import { logSoftmax } from "./reference_sampler.ts";

/**
 * Raw logits behind every id of one text, computed in one step over the first
 * blocks of the pool.
 */
export async function forcedLogits(
  model: NativeModel,
  ids: ArrayLike<number>,
  vocabSize: number,
): Promise<Float32Array[]> {
  const count = ids.length;
  const logits = new Float32Array(count * vocabSize);
  const rows = Int32Array.from({ length: count }, (_, i) => i);
  const samplingInts = new Int32Array(count * samplingIntWords);
  const samplingFloats = new Float32Array(count * samplingFloatWords);
  for (let row = 0; row < count; row++) {
    samplingInts[row * samplingIntWords + 1] = -1;
    samplingFloats.set([0, 1, 0, 0, 0, 1], row * samplingFloatWords);
  }
  const batch: Batch = {
    rows: count,
    sequences: 1,
    outRows: count,
    tokenIds: Int32Array.from(ids),
    positions: rows,
    sequenceTable: Int32Array.of(0, count, 0, 0),
    blockTables: rows.slice(0, Math.ceil(count / blockTokens)),
    outRowIndex: rows,
    samplingInts,
    samplingFloats,
    history: new Int32Array(0),
    biasIds: new Int32Array(0),
    biasValues: new Float32Array(0),
    logits,
  };
  await model.step(batch);
  return Array.from(
    { length: count },
    (_, row) => logits.subarray(row * vocabSize, (row + 1) * vocabSize),
  );
}

/** For i < ids.length - 1: log-probability of `ids[i + 1]` behind `ids[0..i]`. */
export async function forcedLogprobs(
  model: NativeModel,
  ids: ArrayLike<number>,
  vocabSize: number,
): Promise<number[]> {
  const rows = await forcedLogits(model, ids, vocabSize);
  return rows.slice(0, -1).map((row, i) =>
    logSoftmax(Float64Array.from(row))[ids[i + 1]]
  );
}

/**
 * The sampler's rules in plain double precision, read from the same `Batch` words
 * as native code. The order is that of proto `SamplingParams`; only the generator
 * behind the draw is of its own kind.
 */
import {
  type Batch,
  samplingFloatWords,
  samplingIntWords,
  topLogprobsMax,
} from "../native.ts";

export interface SampledRow {
  readonly id: number;
  readonly logprob: number;
  /** Most likely tokens under the raw logits, best first. */
  readonly top: readonly { readonly id: number; readonly logprob: number }[];
}

export function sampleRow(
  batch: Batch,
  outRow: number,
  raw: Float64Array,
): SampledRow {
  const ints = batch.samplingInts.subarray(outRow * samplingIntWords);
  const floats = batch.samplingFloats.subarray(outRow * samplingFloatWords);
  const logits = Float64Array.from(raw);
  for (let i = ints[7]; i < ints[7] + ints[8]; i++) {
    logits[batch.biasIds[i]] += batch.biasValues[i];
  }
  const [, , , presence, frequency, repetition] = floats;
  for (let i = ints[5]; i < ints[5] + ints[6]; i++) {
    const id = batch.history[2 * i];
    const times = batch.history[2 * i + 1];
    logits[id] *= logits[id] > 0 ? 1 / repetition : repetition;
    logits[id] -= times > 0 ? presence + times * frequency : 0;
  }
  const id = floats[0] === 0 ? ranked(logits)[0] : draw(logits, ints, floats);
  const logprobs = logSoftmax(raw);
  const order = ranked(raw);
  const top = order.slice(0, Math.max(0, ints[1]));
  return {
    id,
    logprob: logprobs[id],
    top: top.map((id) => ({ id, logprob: logprobs[id] })),
  };
}

/** Puts the rows' results into the arrays of a `StepOutput`. */
export function packOutput(rows: readonly SampledRow[], stepUs: number) {
  const topIds = new Int32Array(rows.length * topLogprobsMax).fill(-1);
  const topLogprobs = new Float32Array(rows.length * topLogprobsMax);
  rows.forEach(({ top }, row) =>
    top.forEach(({ id, logprob }, i) => {
      topIds[row * topLogprobsMax + i] = id;
      topLogprobs[row * topLogprobsMax + i] = logprob;
    })
  );
  return {
    tokens: Int32Array.from(rows, ({ id }) => id),
    logprobs: Float32Array.from(rows, ({ logprob }) => logprob),
    topIds,
    topLogprobs,
    stepUs,
  };
}

/** Out rows whose hidden state the batch asks for. */
export function rowsThatWantHidden({ outRows, samplingInts }: Batch): number[] {
  return Array.from({ length: outRows }, (_, row) => row)
    .filter((row) => samplingInts[row * samplingIntWords + 9] === 1);
}

export function logSoftmax(logits: Float64Array): Float64Array {
  const max = logits.reduce((a, b) => Math.max(a, b), -Infinity);
  const sum = logits.reduce((total, logit) => total + Math.exp(logit - max), 0);
  return logits.map((logit) => logit - max - Math.log(sum));
}

/** Token ids by falling logit; the lower id first among equals. */
function ranked(logits: Float64Array): number[] {
  return Array.from(logits.keys()).sort((a, b) =>
    logits[b] - logits[a] || a - b
  );
}

function draw(
  logits: Float64Array,
  ints: Int32Array,
  floats: Float32Array,
): number {
  const [temperature, topP, minP] = floats;
  const chances = logSoftmax(logits.map((logit) => logit / temperature)).map(
    Math.exp,
  );
  const best = chances.reduce((a, b) => Math.max(a, b), 0);
  let kept = ranked(logits).filter((id) =>
    chances[id] >= minP * best && chances[id] > 0
  );
  if (ints[0] > 0) kept = kept.slice(0, ints[0]);
  const total = kept.reduce((sum, id) => sum + chances[id], 0);
  let reached = 0;
  const count = kept.findIndex((id) =>
    (reached += chances[id] / total) >= topP
  );
  if (count >= 0) kept = kept.slice(0, count + 1);
  let left = uniform(ints[2], ints[3], ints[4]) *
    kept.reduce((sum, id) => sum + chances[id], 0);
  return kept.find((id) => (left -= chances[id]) < 0) ?? kept[kept.length - 1];
}

/** A number in [0, 1) that depends on seed and output index only. */
function uniform(seedLow: number, seedHigh: number, index: number): number {
  return mix(mix(mix(0x9e3779b9, seedLow), seedHigh), index) / 2 ** 32;
}

/** A 32-bit hash of two words. */
export function mix(a: number, b: number): number {
  let x = Math.imul(a ^ Math.imul(b, 0x85ebca6b), 0xc2b2ae35);
  x = Math.imul(x ^ (x >>> 15), 0x27d4eb2f);
  x = Math.imul(x ^ (x >>> 13), 0x165667b1);
  return (x ^ (x >>> 16)) >>> 0;
}

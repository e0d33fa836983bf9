/** Turns a step plan into the arrays that native code reads; reused step by step. */
import { type Batch, samplingFloatWords, samplingIntWords } from "./native.ts";
import { blockTokens } from "./block_hash.ts";
import type { SamplerState } from "./sampler_state.ts";
import type { StepPlan } from "./scheduler.ts";
import type { Sequence } from "./sequence.ts";

export class StepBatch implements Batch {
  rows = 0;
  sequences = 0;
  outRows = 0;
  readonly tokenIds: Int32Array;
  readonly positions: Int32Array;
  readonly sequenceTable: Int32Array;
  readonly outRowIndex: Int32Array;
  readonly samplingInts: Int32Array;
  readonly samplingFloats: Float32Array;
  blockTables = new Int32Array(1024);
  history = new Int32Array(256);
  biasIds = new Int32Array(64);
  biasValues = new Float32Array(64);
  #tableCount = 0;
  #historyCount = 0;
  #biasCount = 0;

  constructor(
    { rowsMax, runningMax }: { rowsMax: number; runningMax: number },
  ) {
    this.tokenIds = new Int32Array(rowsMax);
    this.positions = new Int32Array(rowsMax);
    this.sequenceTable = new Int32Array(4 * runningMax);
    this.outRowIndex = new Int32Array(runningMax);
    this.samplingInts = new Int32Array(samplingIntWords * runningMax);
    this.samplingFloats = new Float32Array(samplingFloatWords * runningMax);
  }

  fill(plan: StepPlan): void {
    this.rows = this.sequences = this.outRows = 0;
    this.#tableCount = this.#historyCount = this.#biasCount = 0;
    for (let i = 0; i < plan.sequences.length; i++) {
      const sequence = plan.sequences[i];
      if (plan.isAhead) this.#addAhead(sequence, plan.outRowsBefore[i]);
      else this.#addSequence(sequence, plan.rowCounts[i]);
    }
  }

  #addSequence(sequence: Sequence, rowCount: number): void {
    const { kvCount, pendingCount, outputCount, tokens } = sequence;
    this.#addEntry(sequence, rowCount, kvCount);
    for (let i = 0; i < rowCount; i++) {
      this.#addRow(tokens[kvCount + i], kvCount + i);
    }
    if (rowCount === pendingCount) this.#addOutRow(sequence, outputCount);
  }

  /** The row of a token that out row `outRowBefore` of the running step chooses. */
  #addAhead(sequence: Sequence, outRowBefore: number): void {
    const position = sequence.kvCount + 1;
    this.#addEntry(sequence, 1, position);
    this.#addRow(-1 - outRowBefore, position);
    this.#addOutRow(sequence, sequence.outputCount + 1);
  }

  #addEntry(sequence: Sequence, rowCount: number, kvBefore: number): void {
    const at = 4 * this.sequences++;
    this.sequenceTable[at] = this.rows;
    this.sequenceTable[at + 1] = rowCount;
    this.sequenceTable[at + 2] = kvBefore;
    this.sequenceTable[at + 3] = this.#tableCount;
    this.#addTable(sequence, Math.ceil((kvBefore + rowCount) / blockTokens));
  }

  #addRow(tokenId: number, position: number): void {
    this.tokenIds[this.rows] = tokenId;
    this.positions[this.rows++] = position;
  }

  #addTable(sequence: Sequence, count: number): void {
    const begin = this.#tableCount;
    this.#tableCount += count;
    this.blockTables = grown(this.blockTables, this.#tableCount);
    for (let i = 0; i < count; i++) {
      this.blockTables[begin + i] = sequence.blocks[i];
    }
  }

  /** `outputCount`: tokens of the output before the one that is chosen. */
  #addOutRow({ sampler, owner }: Sequence, outputCount: number): void {
    const { sampling } = sampler;
    const ints = samplingIntWords * this.outRows;
    const floats = samplingFloatWords * this.outRows;
    this.outRowIndex[this.outRows++] = this.rows - 1;
    this.samplingInts[ints] = sampling.topK;
    this.samplingInts[ints + 1] = sampling.topLogprobs ?? -1;
    this.samplingInts[ints + 2] = sampler.seedLow;
    this.samplingInts[ints + 3] = sampler.seedHigh;
    this.samplingInts[ints + 4] = outputCount;
    this.samplingInts[ints + 5] = this.#historyCount;
    this.samplingInts[ints + 6] = sampler.historyCount;
    this.samplingInts[ints + 7] = this.#biasCount;
    this.samplingInts[ints + 8] = this.#addBiases(sampler, outputCount);
    this.samplingInts[ints + 9] = owner.wantsHidden ? 1 : 0;
    this.samplingFloats[floats] = sampling.temperature;
    this.samplingFloats[floats + 1] = sampling.topP;
    this.samplingFloats[floats + 2] = sampling.minP;
    this.samplingFloats[floats + 3] = sampling.presencePenalty;
    this.samplingFloats[floats + 4] = sampling.frequencyPenalty;
    this.samplingFloats[floats + 5] = sampling.repetitionPenalty;
    this.#addHistory(sampler);
  }

  #addHistory(sampler: SamplerState): void {
    const count = sampler.historyCount;
    if (count === 0) return;
    const begin = this.#historyCount;
    this.#historyCount += count;
    this.history = grown(this.history, 2 * this.#historyCount);
    this.history.set(sampler.historyWords.subarray(0, 2 * count), 2 * begin);
  }

  #addBiases(sampler: SamplerState, outputCount: number): number {
    const from = sampler.biasBegin(outputCount);
    const count = sampler.biasEnd(outputCount) - from;
    const begin = this.#biasCount;
    this.#biasCount += count;
    this.biasIds = grown(this.biasIds, this.#biasCount);
    this.biasValues = grown(this.biasValues, this.#biasCount);
    for (let i = 0; i < count; i++) {
      this.biasIds[begin + i] = sampler.biasIds[from + i];
      this.biasValues[begin + i] = sampler.biasValues[from + i];
    }
    return count;
  }
}

/** The same array, or a longer copy of it. */
function grown<T extends Int32Array | Float32Array>(
  array: T,
  count: number,
): T {
  if (count <= array.length) return array;
  const longer = new (array.constructor as new (length: number) => T)(
    2 * count,
  );
  longer.set(array);
  return longer;
}

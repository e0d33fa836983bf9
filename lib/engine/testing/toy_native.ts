/**
 * A model without weights, for tests of everything around a model.
 *
 * Its KV is real: each token leaves a word that depends on all tokens before it,
 * and the logits are a hash over all words of the sequence, read back through the
 * block table. One wrong block, one block given out twice, one token fed twice or
 * at the wrong place, and all later tokens differ, or the step rejects.
 */
import { blockTokens } from "../block_hash.ts";
import type {
  Batch,
  Native,
  NativeModel,
  NativeModelSpec,
  StepOutput,
} from "../native.ts";
import {
  mix,
  packOutput,
  rowsThatWantHidden,
  sampleRow,
} from "./reference_sampler.ts";

export interface ToyOptions {
  readonly kvBlocks: number;
  readonly vocabSize?: number;
  /** Called before each step; throwing makes the step fail. */
  readonly onStep?: (batch: Batch) => void | Promise<void>;
  /** Steps may take tokens from the one before, as on a GPU. */
  readonly chainsSteps?: boolean;
}

/** Columns of its hidden states. */
export const toyHiddenSize = 4;

const slotBytes = 8;
const blockBytes = slotBytes * blockTokens;

export class ToyModel implements NativeModel {
  readonly isa = "ref";
  readonly kv: Uint8Array;
  readonly kvBlockBytes = blockBytes;
  readonly weightBytes = 0;
  readonly #options: ToyOptions;
  readonly #vocabSize: number;
  /** u32 [block, token, 2]: state, position + 1 */
  readonly #slots: Uint32Array;
  readonly chainsSteps: boolean;
  closed = false;
  stepCount = 0;
  /** Steps that took their tokens from a step that was still running. */
  aheadCount = 0;
  #tokensBefore: Promise<Int32Array> = Promise.resolve(new Int32Array(0));

  constructor(options: ToyOptions) {
    this.#options = options;
    this.#vocabSize = options.vocabSize ?? 97;
    this.#slots = new Uint32Array(options.kvBlocks * blockBytes / 4);
    this.kv = new Uint8Array(this.#slots.buffer);
    this.chainsSteps = options.chainsSteps ?? false;
  }

  step(batch: Batch): Promise<StepOutput> {
    if (!this.chainsSteps) return this.#step(batch);
    const copy: Batch = structuredClone(batch);
    if (batch.tokenIds.subarray(0, batch.rows).some((id) => id < 0)) {
      this.aheadCount++;
    }
    const output = this.#tokensBefore.then((tokens) => {
      for (let row = 0; row < copy.rows; row++) {
        const id = copy.tokenIds[row];
        if (id < 0) copy.tokenIds[row] = tokens[-1 - id] ?? 0;
      }
      return this.#step(copy);
    });
    this.#tokensBefore = output.then(
      ({ tokens }) => tokens,
      // The step behind one that failed computes nonsense, as on a GPU.
      () => new Int32Array(0),
    );
    return output;
  }

  async #step(batch: Batch): Promise<StepOutput> {
    await new Promise((resolve) => setImmediate(resolve));
    await this.#options.onStep?.(batch);
    if (this.closed) throw new Error("Cannot step: the model is closed");
    this.stepCount++;
    const sequenceOfRow = this.#write(batch);
    const rows = Array.from({ length: batch.outRows }, (_, outRow) => {
      const row = batch.outRowIndex[outRow];
      return sampleRow(
        batch,
        outRow,
        this.#logits(batch, row, sequenceOfRow[row]),
      );
    });
    const hidden = rowsThatWantHidden(batch).flatMap((outRow) => {
      const row = batch.outRowIndex[outRow];
      return [...this.#logits(batch, row, sequenceOfRow[row])]
        .slice(0, toyHiddenSize);
    });
    return {
      ...packOutput(rows, 1),
      ...(hidden.length > 0 && { hidden: Float32Array.from(hidden) }),
    };
  }

  close(): Promise<void> {
    this.closed = true;
    return Promise.resolve();
  }

  /** Fills the slots of all rows; returns the sequence of each row. */
  #write(batch: Batch): Int32Array {
    const sequenceOfRow = new Int32Array(batch.rows).fill(-1);
    const written = new Set<number>();
    for (let s = 0; s < batch.sequences; s++) {
      const [firstRow, rowCount, kvBefore] = batch.sequenceTable.subarray(
        4 * s,
      );
      for (let row = firstRow; row < firstRow + rowCount; row++) {
        const position = batch.positions[row];
        if (position !== kvBefore + row - firstRow) {
          throw new Error("positions have a gap");
        }
        const slot = this.#slot(batch, s, position);
        if (written.has(slot)) throw new Error(`slot ${slot} is written twice`);
        written.add(slot);
        const before = position === 0 ? 1 : this.#state(batch, s, position - 1);
        this.#slots[2 * slot] = mix(before, batch.tokenIds[row]);
        this.#slots[2 * slot + 1] = position + 1;
        sequenceOfRow[row] = s;
      }
    }
    if (sequenceOfRow.includes(-1)) {
      throw new Error("a row belongs to no sequence");
    }
    return sequenceOfRow;
  }

  #logits(batch: Batch, row: number, sequence: number): Float64Array {
    let hash = 7;
    for (let position = 0; position <= batch.positions[row]; position++) {
      hash = mix(hash, this.#state(batch, sequence, position));
    }
    return Float64Array.from(
      { length: this.#vocabSize },
      (_, id) => 8 * mix(hash, id) / 2 ** 32 - 4,
    );
  }

  #state(batch: Batch, sequence: number, position: number): number {
    const slot = this.#slot(batch, sequence, position);
    const found = this.#slots[2 * slot + 1] - 1;
    if (found !== position) {
      throw new Error(
        `KV of position ${position} is that of position ${found}`,
      );
    }
    return this.#slots[2 * slot];
  }

  #slot(batch: Batch, sequence: number, position: number): number {
    const begin = batch.sequenceTable[4 * sequence + 3];
    const block = batch.blockTables[begin + Math.floor(position / blockTokens)];
    return block * blockTokens + position % blockTokens;
  }
}

/** `ToyModel` behind the interface of the addon; weights and program are ignored. */
export function createToyNative(
  options: Omit<ToyOptions, "kvBlocks"> = {},
): Native {
  return {
    isasSupported: ["ref"],
    loadModel: (spec: NativeModelSpec) =>
      Promise.resolve(new ToyModel({ ...options, kvBlocks: spec.kv.blocks })),
    crc32c: () => 0,
  };
}

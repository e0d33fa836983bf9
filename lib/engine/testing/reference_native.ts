/**
 * A plain double-precision interpreter of programs: the twin of the native code.
 *
 * It shares nothing with it but the contract in `program.ts` and `native.ts`.
 * Only K and V are rounded, to the type of the pool. Slow: one multiplication at a
 * time; meant for small models.
 */
import { closeSync, openSync, readSync } from "node:fs";
import { dequantize, ggmlTypeIds, quantizeRows } from "../../gguf/mod.ts";
import { f16Value } from "../../gguf/half.ts";
import type {
  Batch,
  KvShape,
  Native,
  NativeModel,
  NativeModelSpec,
} from "../native.ts";
import { Opcode, opWords, RowKind } from "../program.ts";
import {
  packOutput,
  rowsThatWantHidden,
  sampleRow,
} from "./reference_sampler.ts";

export const referenceNative: Native = {
  isasSupported: ["ref"],
  loadModel: (spec) => Promise.resolve(new ReferenceModel(spec)),
  crc32c: () => {
    throw new Error("Cannot compute CRC-32C: the reference has no checksums");
  },
};

interface Weight {
  readonly rows: number;
  readonly cols: number;
  readonly values: Float32Array;
}

/** Rows of one activation. */
interface Activation {
  readonly cols: number;
  readonly values: Float64Array;
}

class ReferenceModel implements NativeModel {
  readonly isa = "ref";
  readonly kv: Uint8Array;
  readonly kvBlockBytes: number;
  readonly weightBytes: number;
  readonly #spec: NativeModelSpec;
  readonly #weights: readonly Weight[];
  readonly #pool: PagedKv;

  constructor(spec: NativeModelSpec) {
    this.#spec = spec;
    this.#weights = readWeights(spec);
    this.weightBytes = this.#weights.reduce(
      (sum, { values }) => sum + values.byteLength,
      0,
    );
    this.#pool = new PagedKv(spec.kv);
    this.kv = this.#pool.bytes;
    this.kvBlockBytes = this.kv.length / spec.kv.blocks;
  }

  async step(batch: Batch) {
    await new Promise((resolve) => setImmediate(resolve));
    const { tensors, ops } = this.#spec.program;
    const activations = Array.from({ length: tensors.length / 2 }, (_, i) => {
      const rows = tensors[2 * i] === RowKind.rows ? batch.rows : batch.outRows;
      return {
        cols: tensors[2 * i + 1],
        values: new Float64Array(rows * tensors[2 * i + 1]),
      };
    });
    const sequenceOfRow = rowOwners(batch);
    let logits: Activation | undefined;
    let hidden: Activation | undefined;
    for (let begin = 0; begin < ops.length; begin += opWords) {
      const op = new OpView(ops.subarray(begin, begin + opWords));
      const [dst, a, b] = op.tensors.map((id) => activations[id]);
      const [w0, w1] = op.weights.map((id) => this.#weights[id]);
      if (op.code === Opcode.embed) embed(dst, w0, batch);
      else if (op.code === Opcode.rmsNorm) rmsNorm(dst, a, w0, op);
      else if (op.code === Opcode.matmul) matmul(dst, a, w0, w1);
      else if (op.code === Opcode.add) {
        each(dst, (i) => a.values[i] + b.values[i]);
      } else if (op.code === Opcode.siluMul) {
        each(dst, (i) => silu(a.values[i]) * b.values[i]);
      } else if (op.code === Opcode.rope) rope(dst, w0, op, batch);
      else if (op.code === Opcode.gather) gather(dst, a, batch);
      else if (op.code === Opcode.kvWrite) {
        this.#pool.write(a, b, op.ints[0], batch, sequenceOfRow);
      } else if (op.code === Opcode.attention) {
        this.#pool.attend(dst, a, op, batch, sequenceOfRow);
      } else if (op.code === Opcode.sample) [logits, hidden] = [a, b];
      else throw new Error(`Cannot run op ${op.code}: needs a known opcode`);
    }
    return { ...this.#sample(batch, logits!), ...hiddenOf(batch, hidden) };
  }

  close(): Promise<void> {
    return Promise.resolve();
  }

  #sample(batch: Batch, { values, cols }: Activation) {
    batch.logits?.set(values);
    const rows = Array.from(
      { length: batch.outRows },
      (_, row) =>
        sampleRow(batch, row, values.slice(row * cols, (row + 1) * cols)),
    );
    return packOutput(rows, 0);
  }
}

function hiddenOf(batch: Batch, hidden: Activation | undefined) {
  const rows = rowsThatWantHidden(batch);
  if (hidden === undefined || rows.length === 0) return {};
  const { cols, values } = hidden;
  const found = rows.flatMap((row) => [
    ...values.subarray(row * cols, (row + 1) * cols),
  ]);
  return { hidden: Float32Array.from(found) };
}

/** Names for the words of one op. */
class OpView {
  readonly code: number;
  readonly tensors: readonly number[];
  readonly weights: readonly number[];
  readonly ints: Int32Array;
  readonly floats: Float32Array;

  constructor(words: Int32Array) {
    this.code = words[0];
    this.tensors = [...words.subarray(1, 4)];
    this.weights = [...words.subarray(5, 7)];
    this.ints = words.subarray(7, 13);
    this.floats = new Float32Array(words.buffer, words.byteOffset + 4 * 13, 3);
  }
}

function readWeights({ path, weights }: NativeModelSpec): Weight[] {
  const fd = openSync(path, "r");
  try {
    return weights.map(({ name, type, rows, cols, offset, bytes }) => {
      const raw = new Uint8Array(bytes);
      readSync(fd, raw, 0, bytes, offset);
      const values = dequantize(type, raw);
      if (values.length !== rows * cols) {
        throw new Error(
          `tensor "${name}": needs ${
            rows * cols
          } values, found ${values.length}`,
        );
      }
      return { rows, cols, values };
    });
  } finally {
    closeSync(fd);
  }
}

function rowOwners({ rows, sequences, sequenceTable }: Batch): Int32Array {
  const owners = new Int32Array(rows);
  for (let s = 0; s < sequences; s++) {
    const first = sequenceTable[4 * s];
    owners.fill(s, first, first + sequenceTable[4 * s + 1]);
  }
  return owners;
}

function each(
  { values }: Activation,
  compute: (index: number) => number,
): void {
  for (let i = 0; i < values.length; i++) values[i] = compute(i);
}

function silu(x: number): number {
  return x / (1 + Math.exp(-x));
}

function embed(
  { cols, values }: Activation,
  table: Weight,
  { tokenIds }: Batch,
): void {
  each(
    { cols, values },
    (i) => table.values[tokenIds[Math.floor(i / cols)] * cols + i % cols],
  );
}

function gather(
  { cols, values }: Activation,
  a: Activation,
  { outRowIndex }: Batch,
): void {
  each(
    { cols, values },
    (i) => a.values[outRowIndex[Math.floor(i / cols)] * cols + i % cols],
  );
}

function rmsNorm(
  dst: Activation,
  a: Activation,
  { values: weight }: Weight,
  op: OpView,
): void {
  const size = dst.cols / op.ints[0];
  for (let begin = 0; begin < dst.values.length; begin += size) {
    let squares = 0;
    for (let i = begin; i < begin + size; i++) squares += a.values[i] ** 2;
    const rms = Math.sqrt(squares / size + op.floats[0]);
    for (let i = 0; i < size; i++) {
      dst.values[begin + i] = a.values[begin + i] / rms *
        weight[i % weight.length];
    }
  }
}

function matmul(
  dst: Activation,
  a: Activation,
  weight: Weight,
  bias?: Weight,
): void {
  const { rows, cols, values } = weight;
  const inputs = a.values;
  for (let i = 0; i < dst.values.length; i++) {
    const from = Math.floor(i / rows) * cols;
    const row = (i % rows) * cols;
    let sum = bias ? bias.values[i % rows] : 0;
    for (let k = 0; k < cols; k++) sum += inputs[from + k] * values[row + k];
    dst.values[i] = sum;
  }
}

function rope(
  { cols, values }: Activation,
  divisors: Weight | undefined,
  op: OpView,
  { positions }: Batch,
): void {
  const [heads, headDim, rotated, pairing] = op.ints;
  const [base, scale] = op.floats;
  for (let row = 0; row < values.length / cols; row++) {
    for (let head = 0; head < heads; head++) {
      for (let pair = 0; pair < rotated / 2; pair++) {
        const frequency = base ** (-2 * pair / rotated) /
          (divisors?.values[pair] ?? 1);
        const angle = positions[row] * frequency * scale;
        const begin = row * cols + head * headDim;
        const x = begin + (pairing === 0 ? 2 * pair : pair);
        const y = begin + (pairing === 0 ? 2 * pair + 1 : pair + rotated / 2);
        const [vx, vy] = [values[x], values[y]];
        values[x] = vx * Math.cos(angle) - vy * Math.sin(angle);
        values[y] = vx * Math.sin(angle) + vy * Math.cos(angle);
      }
    }
  }
}

/** [block][layer][k|v][kvHead][token], rows of headDim values as GGUF has them. */
class PagedKv {
  readonly bytes: Uint8Array;
  readonly #shape: KvShape;
  readonly #view: DataView;
  readonly #type: number;
  readonly #rowBytes: number;

  constructor(shape: KvShape) {
    const { blocks, layers, kvHeads, blockTokens, headDim } = shape;
    const isF16 = (shape.type ?? "f16") === "f16";
    this.#shape = shape;
    this.#type = isF16 ? ggmlTypeIds.F16! : ggmlTypeIds.Q8_0!;
    this.#rowBytes = isF16 ? headDim * 2 : headDim / 32 * 34;
    this.bytes = new Uint8Array(
      blocks * layers * 2 * kvHeads * blockTokens * this.#rowBytes,
    );
    this.#view = new DataView(this.bytes.buffer);
  }

  write(
    k: Activation,
    v: Activation,
    layer: number,
    batch: Batch,
    owners: Int32Array,
  ): void {
    const { kvHeads, headDim } = this.#shape;
    for (let row = 0; row < batch.rows; row++) {
      const of = { batch, sequence: owners[row] };
      for (let head = 0; head < kvHeads; head++) {
        [k, v].forEach(({ values, cols }, kind) => {
          const at = this.#at(of, batch.positions[row], { layer, kind, head });
          const from = row * cols + head * headDim;
          const some = Float32Array.from(values.subarray(from, from + headDim));
          this.bytes.set(quantizeRows(this.#type, some), at);
        });
      }
    }
  }

  /** Dim `d` of the row at byte `at`. */
  #value(at: number, d: number): number {
    if (this.#type === ggmlTypeIds.F16) {
      return f16Value(this.#view.getUint16(at + 2 * d, true));
    }
    const block = at + Math.floor(d / 32) * 34;
    return f16Value(this.#view.getUint16(block, true)) *
      this.#view.getInt8(block + 2 + d % 32);
  }

  attend(
    dst: Activation,
    q: Activation,
    op: OpView,
    batch: Batch,
    owners: Int32Array,
  ): void {
    const { kvHeads, headDim } = this.#shape;
    const [layer, heads] = op.ints;
    dst.values.fill(0);
    for (let row = 0; row < batch.rows; row++) {
      const of = { batch, sequence: owners[row] };
      for (let h = 0; h < heads; h++) {
        const from = row * q.cols + h * headDim;
        const head = Math.floor(h / (heads / kvHeads));
        const scores: number[] = [];
        for (let position = 0; position <= batch.positions[row]; position++) {
          const at = this.#at(of, position, { layer, kind: 0, head });
          let dot = 0;
          for (let d = 0; d < headDim; d++) {
            dot += q.values[from + d] * this.#value(at, d);
          }
          scores.push(dot * op.floats[0]);
        }
        const max = Math.max(...scores);
        const chances = scores.map((score) => Math.exp(score - max));
        const sum = chances.reduce((a, b) => a + b, 0);
        chances.forEach((chance, position) => {
          const at = this.#at(of, position, { layer, kind: 1, head });
          for (let d = 0; d < headDim; d++) {
            dst.values[from + d] += chance / sum * this.#value(at, d);
          }
        });
      }
    }
  }

  #at(
    { batch, sequence }: { batch: Batch; sequence: number },
    position: number,
    { layer, kind, head }: { layer: number; kind: number; head: number },
  ): number {
    const { layers, kvHeads, blockTokens } = this.#shape;
    const entry = batch.sequenceTable[4 * sequence + 3] +
      Math.floor(position / blockTokens);
    const block = batch.blockTables[entry];
    const plane = ((block * layers + layer) * 2 + kind) * kvHeads + head;
    return (plane * blockTokens + position % blockTokens) * this.#rowBytes;
  }
}

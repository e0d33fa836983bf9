/**
 * Programs: the model graph as a flat list of ops over tensors.
 *
 * TypeScript records one program per model; native code checks it once and then
 * replays it for every step, for whatever rows the step has. Two row counts are
 * symbolic: `rows` (tokens in the step) and `outRows` (rows whose logits are
 * wanted). All activations are f32, row-major.
 *
 * The encoding is the contract with `kernels/addon`: an op is `opWords` 32-bit
 * words, [opcode, dst, a, b, c, w0, w1, i0..i5, f0, f1, f2]; unused ids are -1,
 * floats are stored as their bits. `kernels/include/program.h` says the same.
 */

/** Index of an activation tensor in its program. */
export type TensorId = number & { readonly __tensor: unique symbol };

/** Index of a weight in the model's weight list. */
export type WeightId = number & { readonly __weight: unique symbol };

/** First dimension of an activation: tokens of the step, or rows with logits. */
export const RowKind = { rows: 0, outRows: 1 } as const;
export type RowKind = typeof RowKind[keyof typeof RowKind];

export const Opcode = {
  /** dst[rows, cols] = w0[tokenIds[row]] */
  embed: 1,
  /** dst = a / rms(a) * w0, over i0 equal groups of each row; f0 = epsilon */
  rmsNorm: 2,
  /** dst[r, n] = sum_k a[r, k] * w0[n, k] (+ w1[n] when w1 >= 0) */
  matmul: 3,
  /** dst = a + b */
  add: 4,
  /**
   * Rotates dst in place at positions[row]; i0 heads, i1 headDim, i2 rotated
   * dims, i3 pairing (0: (2i, 2i+1), 1: (i, i + n/2)); w0 >= 0: f32 divisors of
   * the frequencies [i2/2]; f0 base, f1 frequency scale.
   */
  rope: 5,
  /** Writes a = k and b = v [rows, kvHeads * headDim] to layer i0 as f16 */
  kvWrite: 6,
  /**
   * dst[rows, heads * headDim] = softmax(f0 * q k^T) v over the sequence's
   * pages of layer i0, causal; a = q, i1 heads
   */
  attention: 7,
  /** dst = silu(a) * b */
  siluMul: 8,
  /** dst[outRows, cols] = a[outRow index] */
  gather: 9,
  /**
   * Chooses a token per out row from the logits a[outRows, vocab]; b >= 0: the
   * [outRows, cols] that `StepOutput.hidden` gives out
   */
  sample: 10,
} as const;
export type Opcode = typeof Opcode[keyof typeof Opcode];

export const opWords = 16;

/** What native code gets: counts follow from the lengths. */
export interface Program {
  /** i32 [tensors, 2]: row kind, columns */
  readonly tensors: Int32Array;
  /** i32 [ops, opWords] */
  readonly ops: Int32Array;
}

/** Records ops in order; `build()` packs them. */
export class ProgramBuilder {
  readonly #tensors: number[] = [];
  readonly #ops: Int32Array[] = [];

  tensor(rowKind: RowKind, cols: number): TensorId {
    if (!Number.isInteger(cols) || cols < 1) {
      throw new RangeError(
        `Cannot add a tensor: cols must be an integer >= 1, is ${cols}`,
      );
    }
    this.#tensors.push(rowKind, cols);
    return (this.#tensors.length / 2 - 1) as TensorId;
  }

  embed(dst: TensorId, table: WeightId): void {
    this.#push({ opcode: Opcode.embed, dst, w0: table });
  }

  rmsNorm(
    dst: TensorId,
    a: TensorId,
    weight: WeightId,
    { epsilon, groups = 1 }: { epsilon: number; groups?: number },
  ): void {
    this.#push({
      opcode: Opcode.rmsNorm,
      dst,
      a,
      w0: weight,
      ints: [groups],
      floats: [epsilon],
    });
  }

  matmul(dst: TensorId, a: TensorId, weight: WeightId, bias?: WeightId): void {
    this.#push({ opcode: Opcode.matmul, dst, a, w0: weight, w1: bias });
  }

  add(dst: TensorId, a: TensorId, b: TensorId): void {
    this.#push({ opcode: Opcode.add, dst, a, b });
  }

  rope(dst: TensorId, options: RopeOptions): void {
    const { heads, headDim, rotatedDims, pairing, divisors } = options;
    this.#push({
      opcode: Opcode.rope,
      dst,
      w0: divisors,
      ints: [heads, headDim, rotatedDims, pairing === "norm" ? 0 : 1],
      floats: [options.base, options.frequencyScale ?? 1],
    });
  }

  kvWrite(layer: number, k: TensorId, v: TensorId): void {
    this.#push({ opcode: Opcode.kvWrite, a: k, b: v, ints: [layer] });
  }

  attention(
    dst: TensorId,
    q: TensorId,
    { layer, heads, scale }: { layer: number; heads: number; scale: number },
  ): void {
    this.#push({
      opcode: Opcode.attention,
      dst,
      a: q,
      ints: [layer, heads],
      floats: [scale],
    });
  }

  siluMul(dst: TensorId, a: TensorId, b: TensorId): void {
    this.#push({ opcode: Opcode.siluMul, dst, a, b });
  }

  gather(dst: TensorId, a: TensorId): void {
    this.#push({ opcode: Opcode.gather, dst, a });
  }

  sample(logits: TensorId, hidden?: TensorId): void {
    this.#push({ opcode: Opcode.sample, a: logits, b: hidden });
  }

  build(): Program {
    const ops = new Int32Array(this.#ops.length * opWords);
    this.#ops.forEach((words, index) => ops.set(words, index * opWords));
    return { tensors: Int32Array.from(this.#tensors), ops };
  }

  #push(op: OpRecord): void {
    const words = new Int32Array(opWords).fill(-1);
    const floats = new Float32Array(words.buffer);
    words[0] = op.opcode;
    words[1] = op.dst ?? -1;
    words[2] = op.a ?? -1;
    words[3] = op.b ?? -1;
    words[5] = op.w0 ?? -1;
    words[6] = op.w1 ?? -1;
    (op.ints ?? []).forEach((value, i) => words[7 + i] = value);
    (op.floats ?? []).forEach((value, i) => floats[13 + i] = value);
    this.#ops.push(words);
  }
}

export interface RopeOptions {
  heads: number;
  headDim: number;
  /** Leading dims of each head that turn; the rest pass. */
  rotatedDims: number;
  /** `norm` pairs (2i, 2i+1), `neox` pairs (i, i + rotatedDims/2). */
  pairing: "norm" | "neox";
  base: number;
  /** Multiplies every angle; 1 unless linear scaling is in use. */
  frequencyScale?: number;
  /** f32 [rotatedDims / 2]: each frequency is divided by its entry. */
  divisors?: WeightId;
}

interface OpRecord {
  opcode: Opcode;
  dst?: TensorId;
  a?: TensorId;
  b?: TensorId;
  w0?: WeightId;
  w1?: WeightId;
  ints?: number[];
  floats?: number[];
}

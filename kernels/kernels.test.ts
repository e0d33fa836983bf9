import { deepEqual, ok } from "node:assert/strict";
import { beforeAll, describe, test } from "vitest";
import type { Isa, KvType, Native } from "../lib/engine/native.ts";
import {
  type Program,
  ProgramBuilder,
  RowKind,
} from "../lib/engine/program.ts";
import {
  dequantize,
  ggmlTypeIds,
  ggmlTypes,
  quantizeRows,
} from "../lib/gguf/mod.ts";
import { makeBatch } from "./testing/batches.ts";
import { readOut, testNative, withModel } from "./testing/models.ts";
import {
  allWeightTypes,
  fromHalf,
  isQuantized,
  Random,
  randomWeight,
  toHalf,
  WeightFile,
  type WeightType,
  weightTypes,
} from "./testing/weights.ts";

/**
 * Every op on every instruction set against formulas in float64. Inputs reach an op
 * by an F32 embedding table: token t is row t.
 */
let native: Native;
beforeAll(async () => {
  native = await testNative();
});

const rowCounts = [1, 2, 3, 5, 17, 33, 64];
const tokens = (count: number) =>
  Int32Array.from({ length: count }, (_, i) => i);

/** Logits of the program for tokens 0..rows-1, per instruction set. */
async function resultsOf(
  file: WeightFile,
  program: Program,
  cols: number,
  counts: readonly number[],
  check: (isa: Isa, rows: number, values: Float32Array) => void,
): Promise<void> {
  file.write();
  for (const isa of native.isasSupported) {
    await withModel(native, file, { isa, program }, async (model) => {
      for (const rows of counts) {
        const batch = makeBatch([{ tokenIds: tokens(rows) }], { vocab: cols });
        await model.step(batch);
        check(isa, rows, batch.logits!);
      }
    });
  }
}

/** |found - expected| <= bound(i), with the worst case in the message. */
function close(
  what: string,
  found: ArrayLike<number>,
  expected: ArrayLike<number>,
  bound: (i: number) => number,
): void {
  for (let i = 0; i < found.length; i++) {
    const apart = Math.abs(found[i] - expected[i]);
    ok(
      apart <= bound(i),
      `${what}: element ${i} is ${found[i]}, needs ${expected[i]} within ${
        bound(i)
      }`,
    );
  }
}

describe("matmul", () => {
  const shapes = [[32, 1], [96, 17], [512, 33], [1536, 50]] as const;
  const cases = allWeightTypes.flatMap((type) =>
    shapes
      .filter(([k]) =>
        k % ggmlTypes.get(weightTypes[type])!.blockElements === 0
      )
      .map(([k, n]) => ({ type, k, n }))
  );

  test.each(cases)(
    "$type with K $k and N $n keeps its bound, all isas alike",
    async (shape) => {
      const { type, k, n } = shape;
      const random = new Random(k * 31 + n);
      using file = new WeightFile();
      const input = random.floats(64 * k);
      const weight = randomWeight(type, n, k, { seed: k + n });
      const bias = random.floats(n);
      const builder = new ProgramBuilder();
      const a = builder.tensor(RowKind.rows, k),
        y = builder.tensor(RowKind.rows, n);
      builder.embed(a, file.addFloats(64, k, input));
      builder.matmul(y, a, file.add(weight), file.addFloats(1, n, bias));
      const program = readOut(builder, y, n);
      const { expected, bound } = matmulTwin(
        input,
        weight.values,
        bias,
        k,
        n,
        type,
      );
      let first: Float32Array | undefined;
      await resultsOf(file, program, n, rowCounts, (isa, rows, values) => {
        close(`${isa} ${type} rows ${rows}`, values, expected, (i) => bound[i]);
        // Same order of additions everywhere, hence the same bits for any row count.
        if (rows === 64) first ??= values.slice();
        if (first) {
          deepEqual(values, first.subarray(0, rows * n), `${isa} rows ${rows}`);
        }
      });
    },
  );
});

/**
 * Exact products. A float sum of K terms strays by about sqrt(K) roundings; int8
 * activations by at most half a step (largest / 254) per value.
 */
function matmulTwin(
  input: Float32Array,
  weight: Float64Array,
  bias: Float32Array,
  k: number,
  n: number,
  type: WeightType,
) {
  const rows = input.length / k, quantized = isQuantized(type);
  const expected = new Float64Array(rows * n),
    bound = new Float64Array(rows * n);
  for (let row = 0; row < rows; row++) {
    for (let col = 0; col < n; col++) {
      let sum = bias[col], magnitude = Math.abs(bias[col]), step = 0;
      for (let i = 0; i < k; i++) {
        const x = input[row * k + i], w = weight[col * k + i];
        sum += x * w;
        magnitude += Math.abs(x * w);
        if (quantized) step += Math.abs(w) * blockMax(input, row * k + i) / 254;
      }
      expected[row * n + col] = sum;
      bound[row * n + col] = step * 1.001 +
        magnitude * (4 + Math.sqrt(k)) * 2 ** -24;
    }
  }
  return { expected, bound };
}

const maxima = new WeakMap<Float32Array, Float64Array>();
function blockMax(input: Float32Array, i: number): number {
  let all = maxima.get(input);
  if (!all) {
    all = new Float64Array(input.length / 32);
    input.forEach((x, at) =>
      all![at >> 5] = Math.max(all![at >> 5], Math.abs(x))
    );
    maxima.set(input, all);
  }
  return all[i >> 5];
}

describe("row-wise ops", () => {
  const cols = 50;
  const random = new Random(7);
  const input = random.floats(64 * cols, 3), other = random.floats(64 * cols);

  test("embed() dequantizes every type exactly, odd row counts too", async () => {
    const cols = 512;
    for (const type of allWeightTypes) {
      using file = new WeightFile();
      const table = randomWeight(type, 37, cols, { seed: 37 });
      const builder = new ProgramBuilder();
      const x = builder.tensor(RowKind.rows, cols);
      builder.embed(x, file.add(table));
      await resultsOf(
        file,
        readOut(builder, x, cols),
        cols,
        [1, 37],
        (isa, rows, values) => {
          const exact = Float32Array.from(
            table.values.subarray(0, rows * cols),
          );
          close(`${isa} ${type}`, values, exact, () => 0);
        },
      );
    }
  });

  test("rmsNorm() divides each group by its root mean square", async () => {
    for (const groups of [1, 2, 5]) {
      using file = new WeightFile();
      const width = cols / groups,
        weight = random.floats(width),
        epsilon = 1e-3;
      const builder = new ProgramBuilder();
      const x = builder.tensor(RowKind.rows, cols),
        y = builder.tensor(RowKind.rows, cols);
      builder.embed(x, file.addFloats(64, cols, input));
      builder.rmsNorm(y, x, file.addFloats(1, width, weight), {
        epsilon,
        groups,
      });
      const expected = Float64Array.from(input, (value, i) => {
        const begin = i - (i % width);
        const squares = input.subarray(begin, begin + width).reduce(
          (sum, v) => sum + v * v,
          0,
        );
        return value / Math.sqrt(squares / width + Math.fround(epsilon)) *
          weight[i % width];
      });
      await resultsOf(
        file,
        readOut(builder, y, cols),
        cols,
        [1, 5, 64],
        (isa, _, values) => {
          close(
            `${isa} groups ${groups}`,
            values,
            expected,
            (i) => 1e-6 * Math.abs(expected[i]),
          );
        },
      );
    }
  });

  test("add() and siluMul() follow their formulas, far out too", async () => {
    const wide = input.map((value, i) => i % 7 === 0 ? value * 60 : value);
    using file = new WeightFile();
    const builder = new ProgramBuilder();
    const [x, y, z] = [0, 1, 2].map(() => builder.tensor(RowKind.rows, cols));
    builder.embed(x, file.addFloats(64, cols, wide));
    builder.embed(y, file.addFloats(64, cols, other));
    builder.siluMul(z, x, y);
    builder.add(z, z, y);
    const expected = Float64Array.from(
      wide,
      (v, i) => v / (1 + Math.exp(-v)) * other[i] + other[i],
    );
    await resultsOf(
      file,
      readOut(builder, z, cols),
      cols,
      rowCounts,
      (isa, _, values) => {
        const size = (i: number) =>
          Math.abs(expected[i] - other[i]) + Math.abs(other[i]);
        close(isa, values, expected, (i) => 4e-7 * size(i) + 1e-30);
      },
    );
  });

  test("rope() turns pairs by position, with divisors, both pairings, partly", async () => {
    const heads = 2, headDim = 80, rotated = 64, base = 10_000;
    const source = random.floats(64 * heads * headDim);
    const divisors = Float32Array.from(
      { length: rotated / 2 },
      (_, i) => 1 + i / 8,
    );
    for (const pairing of ["norm", "neox"] as const) {
      using file = new WeightFile();
      const builder = new ProgramBuilder();
      const x = builder.tensor(RowKind.rows, heads * headDim);
      builder.embed(x, file.addFloats(64, heads * headDim, source));
      builder.rope(x, {
        ...{
          heads,
          headDim,
          rotatedDims: rotated,
          pairing,
          base,
          frequencyScale: 0.5,
        },
        divisors: file.addFloats(1, rotated / 2, divisors),
      });
      const expected = Float64Array.from(source);
      for (let at = 0; at < 64 * heads; at++) {
        for (let i = 0; i < rotated / 2; i++) {
          const angle = Math.floor(at / heads) * 0.5 *
            base ** (-2 * i / rotated) / divisors[i];
          const p = at * headDim + (pairing === "norm" ? 2 * i : i);
          const q = pairing === "norm" ? p + 1 : p + rotated / 2;
          expected[p] = source[p] * Math.cos(angle) -
            source[q] * Math.sin(angle);
          expected[q] = source[p] * Math.sin(angle) +
            source[q] * Math.cos(angle);
        }
      }
      const cols = heads * headDim;
      await resultsOf(
        file,
        readOut(builder, x, cols),
        cols,
        [3, 64],
        (isa, _, values) => {
          close(`${isa} ${pairing}`, values, expected, () => 1e-6);
        },
      );
    }
  });
});

describe("attention", () => {
  const shapes = [
    { heads: 2, kvHeads: 2, headDim: 32, blockTokens: 16 },
    { heads: 4, kvHeads: 2, headDim: 64, blockTokens: 16 },
    { heads: 8, kvHeads: 2, headDim: 80, blockTokens: 16 },
    { heads: 8, kvHeads: 1, headDim: 128, blockTokens: 16 },
    { heads: 2, kvHeads: 1, headDim: 20, blockTokens: 24 },
    { heads: 6, kvHeads: 2, headDim: 96, blockTokens: 16 },
    { heads: 5, kvHeads: 1, headDim: 32, blockTokens: 32 },
    { heads: 7, kvHeads: 1, headDim: 64, blockTokens: 48 },
  ];
  const cases = (["f16", "q8_0"] as const).flatMap((type) =>
    shapes
      .filter(({ headDim, blockTokens }) =>
        type === "f16" || (headDim % 32 === 0 && blockTokens % 16 === 0)
      )
      .map((shape) => ({ type, ...shape }))
  );
  const lengths = [1, 15, 16, 17, 200];

  test.each(cases)(
    "$heads heads on $kvHeads of $headDim in $type, blocks of $blockTokens, match softmax in float64",
    async ({ type, heads, kvHeads, headDim, blockTokens }) => {
      const random = new Random(heads * headDim);
      const rows = lengths.reduce((sum, length) => sum + length, 0);
      const qWidth = heads * headDim, kvWidth = kvHeads * headDim;
      const q = random.floats(rows * qWidth), k = random.floats(rows * kvWidth);
      const v = random.floats(rows * kvWidth), scale = 1 / Math.sqrt(headDim);
      using file = new WeightFile();
      const builder = new ProgramBuilder();
      const tensors = [qWidth, kvWidth, kvWidth, qWidth].map((cols) =>
        builder.tensor(RowKind.rows, cols)
      );
      builder.embed(tensors[0], file.addFloats(rows, qWidth, q));
      builder.embed(tensors[1], file.addFloats(rows, kvWidth, k));
      builder.embed(tensors[2], file.addFloats(rows, kvWidth, v));
      builder.kvWrite(1, tensors[1], tensors[2]);
      builder.attention(tensors[3], tensors[0], { layer: 1, heads, scale });
      const program = readOut(builder, tensors[3], qWidth);
      file.write();

      const blocks = random.shuffled(30);
      let row = 0, used = 0;
      const sequences = lengths.map((length) => {
        const tokenIds = Int32Array.from({ length }, () => row++);
        const count = Math.ceil(length / blockTokens);
        return { tokenIds, blocks: blocks.subarray(used, used += count) };
      });
      const kv = { type, layers: 2, kvHeads, headDim, blockTokens, blocks: 30 };
      const [kStored, vStored] = [k, v].map(stored[type]);
      for (const isa of native.isasSupported) {
        await withModel(
          native,
          file,
          { isa, program, kv, rowsMax: rows },
          async (model) => {
            const batch = makeBatch(sequences, { vocab: qWidth, blockTokens });
            await model.step(batch);
            for (const { tokenIds } of sequences) {
              for (
                const at of new Set([
                  0,
                  tokenIds.length >> 1,
                  tokenIds.length - 1,
                ])
              ) {
                const row = tokenIds[at];
                const expected = attentionTwin(
                  {
                    ...{ q, k: kStored, v: vStored },
                    ...{ heads, kvHeads, headDim, scale },
                  },
                  tokenIds,
                  at,
                );
                const found = batch.logits!.subarray(
                  row * qWidth,
                  (row + 1) * qWidth,
                );
                close(
                  `${isa} length ${tokenIds.length} row ${at}`,
                  found,
                  expected,
                  () => 3e-6,
                );
              }
            }
          },
        );
      }
    },
  );
});

/** What is left of keys and values in the pool. */
const stored: Record<KvType, (values: Float32Array) => Float32Array> = {
  f16: (values) => values.map((value) => fromHalf(toHalf(value))),
  q8_0: (values) =>
    dequantize(ggmlTypeIds.Q8_0!, quantizeRows(ggmlTypeIds.Q8_0!, values)),
};

interface AttentionInput {
  readonly q: Float32Array;
  readonly k: Float32Array;
  readonly v: Float32Array;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly scale: number;
}

/** Row `at` of a sequence whose tokens are rows `ids`. */
function attentionTwin(
  input: AttentionInput,
  ids: Int32Array,
  at: number,
): Float64Array {
  const { q, k, v, heads, kvHeads, headDim, scale } = input;
  const out = new Float64Array(heads * headDim);
  for (let head = 0; head < heads; head++) {
    const kvHead = Math.floor(head / (heads / kvHeads));
    const query = q.subarray((ids[at] * heads + head) * headDim).subarray(
      0,
      headDim,
    );
    const from = (token: number) => (ids[token] * kvHeads + kvHead) * headDim;
    const scores = Array.from(
      { length: at + 1 },
      (_, token) =>
        query.reduce((sum, x, i) => sum + x * k[from(token) + i], 0) *
        scale,
    );
    const max = Math.max(...scores);
    const weights = scores.map((score) => Math.exp(score - max));
    const total = weights.reduce((sum, weight) => sum + weight, 0);
    for (let i = 0; i < headDim; i++) {
      weights.forEach((weight, token) =>
        out[head * headDim + i] += weight * v[from(token) + i] / total
      );
    }
  }
  return out;
}

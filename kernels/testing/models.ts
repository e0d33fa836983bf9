/** Programs and models for tests. */
import type {
  Isa,
  KvShape,
  Native,
  NativeModel,
  NativeModelSpec,
} from "../../lib/engine/native.ts";
import {
  ProgramBuilder,
  RowKind,
  type TensorId,
} from "../../lib/engine/program.ts";
import { buildKernels } from "../build.ts";
import { loadNative } from "../addon/mod.ts";
import process from "node:process";
import { Random, WeightFile } from "./weights.ts";

/** The addon, built when it is missing or old. */
export async function testNative(): Promise<Native> {
  if (!process.env.QUETZAL_ADDON) await buildKernels();
  process.env.QUETZAL_EMULATED_ISAS = "1";
  return loadNative();
}

export const smallKv: KvShape = {
  layers: 1,
  kvHeads: 1,
  headDim: 32,
  blockTokens: 16,
  blocks: 8,
};

/** Loads, uses and closes a model; KV starts as f16 NaN, which nothing may read. */
export async function withModel<T>(
  native: Native,
  file: WeightFile,
  spec: Partial<NativeModelSpec> & Pick<NativeModelSpec, "program">,
  use: (model: NativeModel) => Promise<T>,
): Promise<T> {
  const model = await native.loadModel({
    path: file.path,
    isa: "ref",
    threads: 2,
    weights: file.specs,
    kv: smallKv,
    rowsMax: 64,
    outRowsMax: spec.rowsMax ?? 64,
    ...spec,
  });
  try {
    model.kv.fill(0xff);
    return await use(model);
  } finally {
    await model.close();
  }
}

/** A program whose sampled logits are `result`, so that a test can read it. */
export function readOut(
  builder: ProgramBuilder,
  result: TensorId,
  cols: number,
) {
  const out = builder.tensor(RowKind.outRows, cols);
  builder.gather(out, result);
  builder.sample(out);
  return builder.build();
}

export interface TinyShape {
  readonly vocab: number;
  readonly width: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly layers: number;
  /** The output has a matrix of its own, not the embedding's. */
  readonly isUntied?: boolean;
}

/** Random weights of a small transformer with every op in it. */
export function tinyTransformer(
  file: WeightFile,
  shape: TinyShape,
  addMatrix: (rows: number, cols: number) => ReturnType<WeightFile["add"]>,
) {
  const { vocab, width, heads, kvHeads, headDim } = shape;
  const random = new Random(99);
  const norm = (cols: number) =>
    file.addFloats(1, cols, random.floats(cols, 0.1).map((value) => 1 + value));
  const builder = new ProgramBuilder();
  const tensor = (cols: number) => builder.tensor(RowKind.rows, cols);
  const embedding = addMatrix(vocab, width);
  const x = tensor(width), normed = tensor(width);
  builder.embed(x, embedding);
  for (let layer = 0; layer < shape.layers; layer++) {
    const q = tensor(heads * headDim),
      k = tensor(kvHeads * headDim),
      v = tensor(kvHeads * headDim);
    builder.rmsNorm(normed, x, norm(width), { epsilon: 1e-5 });
    builder.matmul(q, normed, addMatrix(heads * headDim, width));
    builder.matmul(k, normed, addMatrix(kvHeads * headDim, width));
    builder.matmul(v, normed, addMatrix(kvHeads * headDim, width));
    const rope = {
      headDim,
      rotatedDims: headDim,
      base: 10_000,
      pairing: "neox" as const,
    };
    builder.rmsNorm(q, q, norm(headDim), { epsilon: 1e-5, groups: heads });
    builder.rope(q, { ...rope, heads });
    builder.rope(k, { ...rope, heads: kvHeads });
    builder.kvWrite(layer, k, v);
    const mixed = tensor(heads * headDim), projected = tensor(width);
    builder.attention(mixed, q, {
      layer,
      heads,
      scale: 1 / Math.sqrt(headDim),
    });
    builder.matmul(projected, mixed, addMatrix(width, heads * headDim));
    builder.add(x, x, projected);
    builder.rmsNorm(normed, x, norm(width), { epsilon: 1e-5 });
    const gate = tensor(2 * width),
      up = tensor(2 * width),
      down = tensor(width);
    builder.matmul(gate, normed, addMatrix(2 * width, width));
    builder.matmul(up, normed, addMatrix(2 * width, width));
    builder.siluMul(gate, gate, up);
    builder.matmul(down, gate, addMatrix(width, 2 * width));
    builder.add(x, x, down);
  }
  const last = builder.tensor(RowKind.outRows, width),
    logits = builder.tensor(RowKind.outRows, vocab);
  builder.gather(last, x);
  builder.rmsNorm(last, last, norm(width), { epsilon: 1e-5 });
  const output = shape.isUntied ? addMatrix(vocab, width) : embedding;
  builder.matmul(logits, last, output);
  builder.sample(logits, last);
  return builder.build();
}

export type { Isa };

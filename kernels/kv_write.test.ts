import { deepEqual, equal, rejects } from "node:assert/strict";
import { beforeAll, test } from "vitest";
import type { KvShape, Native, NativeModel } from "../lib/engine/native.ts";
import { ProgramBuilder, RowKind } from "../lib/engine/program.ts";
import { ggmlTypeIds, quantizeRows } from "../lib/gguf/mod.ts";
import { makeBatch } from "./testing/batches.ts";
import { readOut, smallKv, testNative, withModel } from "./testing/models.ts";
import { Random, WeightFile } from "./testing/weights.ts";

/** What the pool holds behind kvWrite, on every instruction set. */
let native: Native;
beforeAll(async () => {
  native = await testNative();
});

const kv = {
  type: "q8_0",
  layers: 2,
  kvHeads: 3,
  headDim: 64,
  blockTokens: 32,
  blocks: 5,
} as const;
const width = kv.kvHeads * kv.headDim;
const codesBytes = kv.headDim * kv.blockTokens;
const headBytes = codesBytes / 32 * 34;
const q8 = ggmlTypeIds.Q8_0!;

/** A program that writes rows of `k` and `v` to layer 1 and samples from `k`. */
function writer(file: WeightFile, k: Float32Array, v: Float32Array) {
  const builder = new ProgramBuilder();
  const rows = k.length / width;
  const [a, b] = [k, v].map((values) => {
    const tensor = builder.tensor(RowKind.rows, width);
    builder.embed(tensor, file.addFloats(rows, width, values));
    return tensor;
  });
  builder.kvWrite(1, a, b);
  const attended = builder.tensor(RowKind.rows, width);
  builder.attention(attended, a, { layer: 1, heads: kv.kvHeads, scale: 1 });
  file.write();
  return readOut(builder, attended, width);
}

/** The blocks of a row of one head as GGUF has them: scale and 32 codes after one another. */
function storedRow(
  model: NativeModel,
  { block, head, isV, slot }: Record<"block" | "head" | "isV" | "slot", number>,
): Uint8Array {
  const { layers, kvHeads, headDim, blockTokens } = kv;
  const at = (((block * layers + 1) * 2 + isV) * kvHeads + head) * headBytes;
  const bytes = model.kv.subarray(at, at + headBytes);
  const row: number[] = [];
  for (let i = 0; i < headDim; i++) {
    if (i % 32 === 0) {
      const scale = codesBytes + 2 * (i / 32 * blockTokens + slot);
      row.push(bytes[scale], bytes[scale + 1]);
    }
    row.push(bytes[isV ? slot * headDim + i : i * blockTokens + slot]);
  }
  return Uint8Array.from(row);
}

/** Random rows, and blocks in which ggml's rounding shows. */
function samples(random: Random, rows: number): Float32Array {
  const values = random.floats(rows * width, 3);
  values.fill(0, 0, 32);
  // A scale of 1: halves go away from zero.
  for (let i = 0; i < 31; i++) values[32 + i] = (i - 15) / 2;
  values[63] = -127;
  // Scales that are subnormal halves, and the largest.
  for (let i = 64; i < 96; i++) values[i] *= 1e-6;
  for (let i = 96; i < 128; i++) values[i] *= 1e5;
  return values;
}

test("q8_0 keys and values have the codes and scales of ggml's reference", async () => {
  const random = new Random(21);
  const rows = 40;
  const k = samples(random, rows), v = samples(random, rows);
  using file = new WeightFile();
  const program = writer(file, k, v);
  const blocks = [4, 1];
  const tokenIds = Int32Array.from({ length: rows }, (_, i) => i);
  for (const isa of native.isasSupported) {
    await withModel(native, file, { isa, program, kv }, async (model) => {
      equal(model.kvBlockBytes, kv.layers * 2 * kv.kvHeads * headBytes);
      const batch = makeBatch([{ tokenIds, blocks, outRows: [] }], {
        blockTokens: kv.blockTokens,
      });
      await model.step(batch);
      for (let row = 0; row < rows; row++) {
        for (let head = 0; head < kv.kvHeads; head++) {
          [k, v].forEach((values, isV) => {
            const block = blocks[Math.floor(row / kv.blockTokens)];
            const slot = row % kv.blockTokens;
            const begin = row * width + head * kv.headDim;
            deepEqual(
              storedRow(model, { block, head, isV, slot }),
              quantizeRows(q8, values.subarray(begin, begin + kv.headDim)),
              `${isa}, row ${row}, head ${head}, ${isV ? "v" : "k"}`,
            );
          });
        }
      }
    });
  }
});

test.each([
  { what: "a key", k: NaN, v: 0 },
  { what: "a key", k: Infinity, v: 0 },
  { what: "a value", k: 0, v: NaN },
  { what: "a value", k: 0, v: -Infinity },
])("$what that is $k or $v is not hidden by rounding", async ({ k, v }) => {
  const random = new Random(3);
  const keys = random.floats(width), values = random.floats(width);
  if (k !== 0) keys[7] = k;
  if (v !== 0) values[40] = v;
  using file = new WeightFile();
  const program = writer(file, keys, values);
  for (const isa of native.isasSupported) {
    await withModel(native, file, { isa, program, kv }, async (model) => {
      const batch = makeBatch([{ tokenIds: [0] }], {
        blockTokens: kv.blockTokens,
      });
      await rejects(model.step(batch), /logits are not finite/);
    });
  }
});

test.each<{ what: string; shape: Partial<KvShape>; message: RegExp }>([
  {
    what: "heads of 80",
    shape: { type: "q8_0", headDim: 80 },
    message: /heads in multiples of 32 dims .* found 80 dims and 16 tokens/,
  },
  {
    what: "blocks of 24",
    shape: { type: "q8_0", blockTokens: 24 },
    message: /multiples of 16 tokens, found 32 dims and 24 tokens/,
  },
  {
    what: "q4_0",
    shape: { type: "q4_0" as "q8_0" },
    message: /kv.type must be f16 or q8_0, is "q4_0"/,
  },
])("a pool of $what is refused", async ({ shape, message }) => {
  using file = new WeightFile();
  const random = new Random(1);
  const program = writer(file, random.floats(width), random.floats(width));
  const model = { program, kv: { ...smallKv, ...shape } };
  await rejects(withModel(native, file, model, async () => {}), message);
});

import { equal } from "node:assert/strict";
import { beforeAll, expect, test } from "vitest";
import type { KvType, Native, NativeModel } from "../lib/engine/native.ts";
import { makeBatch, type TestSequence } from "./testing/batches.ts";
import { testNative, tinyTransformer, withModel } from "./testing/models.ts";
import {
  encodeWeight,
  Random,
  WeightFile,
  type WeightType,
} from "./testing/weights.ts";

const shape = {
  vocab: 71,
  width: 64,
  heads: 4,
  kvHeads: 2,
  headDim: 32,
  layers: 2,
};
const kv = { layers: 2, kvHeads: 2, headDim: 32, blockTokens: 16, blocks: 64 };
const random = new Random(5);
/** Longer than what attention weighs together. */
const length = 109;
const prompt = Int32Array.from({ length }, () => random.below(shape.vocab));
const blocks = [9, 3, 27, 31, 12, 5, 20];

let native: Native;
beforeAll(async () => {
  native = await testNative();
});

function bytesOf(logits: Float32Array): string {
  return Buffer.from(logits.buffer, logits.byteOffset, logits.byteLength)
    .toString("hex");
}

/** Logits of the last prompt token, the prompt fed in the given chunks. */
async function lastLogits(
  model: NativeModel,
  chunks: readonly number[],
  neighbours: (step: number) => readonly TestSequence[],
): Promise<string> {
  let done = 0, logits = new Float32Array();
  for (const [step, count] of chunks.entries()) {
    const own = {
      tokenIds: prompt.subarray(done, done + count),
      kvBefore: done,
      blocks,
      outRows: [count - 1],
    };
    const before = neighbours(step);
    const batch = makeBatch([...before, own], { vocab: shape.vocab });
    await model.step(batch);
    const rows = before.reduce(
      (sum, { outRows, tokenIds }) =>
        sum + (outRows?.length ?? tokenIds.length),
      0,
    );
    logits = batch.logits!.slice(rows * shape.vocab, (rows + 1) * shape.vocab);
    done += count;
  }
  equal(done, prompt.length);
  return bytesOf(logits);
}

/** Other sequences in blocks of their own, different in every step. */
function crowd(step: number): TestSequence[] {
  const neighbour = new Random(step + 1);
  return Array.from({ length: 1 + step % 4 }, (_, i) => ({
    tokenIds: Int32Array.from(
      { length: 1 + neighbour.below(9) },
      () => neighbour.below(shape.vocab),
    ),
    blocks: [40 + i],
  }));
}

const alone = () => [];
const variants = [
  {
    name: "one token at a time",
    chunks: Array(length).fill(1),
    neighbours: alone,
  },
  {
    name: "chunks across blocks",
    chunks: [7, 16, 1, 21, 60, 4],
    neighbours: alone,
  },
  { name: "one chunk among others", chunks: [length], neighbours: crowd },
  {
    name: "single tokens among others",
    chunks: Array(length).fill(1),
    neighbours: crowd,
  },
  {
    name: "chunks of 11 among others",
    chunks: [...Array(9).fill(11), 10],
    neighbours: crowd,
  },
];

const cases: { type: WeightType; kvType: KvType }[] = [
  ...(["Q8_0", "Q4_0", "F16", "BF16", "F32"] as const).map((type) => ({
    type,
    kvType: "f16" as const,
  })),
  { type: "Q8_0", kvType: "q8_0" },
  { type: "F32", kvType: "q8_0" },
];
test.each(cases)(
  "$type logits over KV in $kvType are the same bits for any batch, chunking and thread count",
  async ({ type, kvType }) => {
    using file = new WeightFile();
    const weights = new Random(11);
    const program = tinyTransformer(
      file,
      shape,
      (rows, cols) =>
        file.add(
          encodeWeight(type, rows, cols, weights.floats(rows * cols, 0.15)),
        ),
    );
    file.write();
    const perIsa = new Map<string, string>();
    for (const isa of native.isasSupported) {
      for (const threads of [1, 2, 3]) {
        await withModel(native, file, {
          isa,
          threads,
          program,
          kv: { ...kv, type: kvType },
          rowsMax: 192,
        }, async (model) => {
          const expected = perIsa.get(isa) ??
            await lastLogits(model, [length], alone);
          perIsa.set(isa, expected);
          for (const { name, chunks, neighbours } of variants) {
            const found = await lastLogits(model, chunks, neighbours);
            equal(found, expected, `${isa}, ${threads} threads, ${name}`);
          }
        });
      }
    }
    // AVX2 and AVX-512 do the same operations in the same lanes.
    if (perIsa.has("avx512")) {
      expect(perIsa.get("avx512")).toBe(perIsa.get("avx2"));
    }
  },
);

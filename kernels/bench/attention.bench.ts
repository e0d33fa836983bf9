/**
 * What attention costs over KV in f16 and in q8_0: `deno run -A
 * kernels/bench/attention.bench.ts [--threads N]`. Sixteen layers of 32 heads of 64 dims
 * on 8 KV heads, as in Llama-3.2-1B, and nothing else; the best of many steps.
 */
import process from "node:process";
import { kvTypes, type NativeModel } from "../../lib/engine/native.ts";
import { ProgramBuilder, RowKind } from "../../lib/engine/program.ts";
import { makeBatch } from "../testing/batches.ts";
import { testNative } from "../testing/models.ts";
import { Random, WeightFile } from "../testing/weights.ts";
import { measureRoof } from "./measure_roof.ts";

const heads = 32, headDim = 64;
const shape = { layers: 16, kvHeads: 8, headDim, blockTokens: 16 };
const cases = [
  { rows: 1, kvBefore: 511 },
  { rows: 1, kvBefore: 8191 },
  { rows: 256, kvBefore: 256 },
  { rows: 256, kvBefore: 7936 },
];
const at = process.argv.indexOf("--threads");
const threads = at < 0 ? 2 : Number(process.argv[at + 1]);

const native = await testNative();
using file = new WeightFile();
const builder = new ProgramBuilder();
const width = heads * headDim;
const [q, out] = [0, 1].map(() => builder.tensor(RowKind.rows, width));
builder.embed(q, file.addFloats(1, width, new Random(1).floats(width)));
for (let layer = 0; layer < shape.layers; layer++) {
  builder.attention(out, q, { layer, heads, scale: 1 / Math.sqrt(headDim) });
}
file.write();
const program = builder.build();
const isas = native.isasSupported.filter((isa) => isa.startsWith("avx"));

async function bestUs(
  model: NativeModel,
  { rows, kvBefore }: typeof cases[number],
): Promise<number> {
  const batch = makeBatch([
    { tokenIds: new Int32Array(rows), kvBefore, outRows: [] },
  ]);
  let best = Infinity;
  const until = performance.now() + 1_500;
  for (let i = 0; i < 3 || performance.now() < until; i++) {
    best = Math.min(best, (await model.step(batch)).stepUs);
  }
  return best;
}

console.log(
  `${threads} threads, ${measureRoof(threads).readGBps} GB/s read at most`,
);
for (const isa of isas) {
  for (const type of kvTypes) {
    const kv = { ...shape, type, blocks: 8192 / shape.blockTokens };
    const model = await native.loadModel({
      ...{ path: file.path, isa, threads, weights: file.specs, program, kv },
      ...{ rowsMax: 256, outRowsMax: 1 },
    });
    // Small numbers as halves and as codes.
    model.kv.fill(0x11);
    for (const one of cases) {
      const us = await bestUs(model, one);
      const read = model.kvBlockBytes * (one.kvBefore + one.rows) /
        shape.blockTokens;
      // Scores and values; a row sees half of its chunk.
      const products = 2 * shape.layers * width * one.rows *
        (one.kvBefore + one.rows / 2);
      console.log(
        `${isa.padEnd(6)} ${type.padEnd(4)} rows ${
          String(one.rows).padStart(3)
        } behind ${String(one.kvBefore).padStart(4)} ${
          us.toFixed(0).padStart(8)
        } us ${(read / us / 1e3).toFixed(1).padStart(6)} GB/s ${
          (2 * products / us / 1e3).toFixed(0).padStart(5)
        } Gflop/s`,
      );
    }
    await model.close();
  }
}

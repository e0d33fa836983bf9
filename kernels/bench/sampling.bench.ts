/**
 * What sampling costs over a vocabulary of 128,256: `deno run -A
 * kernels/bench/sampling.bench.ts [--threads N]`. A step of eight rows that only
 * copies and samples random logits, less one that only copies; the best of many.
 */
import process from "node:process";
import { ProgramBuilder, RowKind } from "../../lib/engine/program.ts";
import { makeBatch, type TestSampling } from "../testing/batches.ts";
import { smallKv, testNative } from "../testing/models.ts";
import { Random, WeightFile } from "../testing/weights.ts";

const vocab = 128_256;
const rows = 8;
const at = process.argv.indexOf("--threads");
const threads = at < 0 ? 2 : Number(process.argv[at + 1]);
const kinds: Record<string, TestSampling> = {
  "greedy": { temperature: 0 },
  "temperature 0.8": { temperature: 0.8, seed: 1n },
  "temperature, top-k 40, top-p 0.95": {
    temperature: 0.8,
    topK: 40,
    topP: 0.95,
    seed: 1n,
  },
  "temperature, top-p 0.95": { temperature: 0.8, topP: 0.95, seed: 1n },
  "temperature, min-p 0.05": { temperature: 0.8, minP: 0.05, seed: 1n },
  "the same with a repetition penalty": {
    ...{ temperature: 0.8, minP: 0.05, seed: 1n, repetition: 1.1 },
    history: Array.from({ length: 500 }, (_, i) => [i * 17, i % 3]),
  },
  "greedy, 20 log-probabilities": { temperature: 0, topLogprobs: 20 },
};

const native = await testNative();
using file = new WeightFile();
const logits = new Random(3).floats(rows * vocab, 2.3);
const builder = new ProgramBuilder();
const x = builder.tensor(RowKind.rows, vocab);
builder.embed(x, file.addFloats(rows, vocab, logits));
const out = builder.tensor(RowKind.outRows, vocab);
builder.gather(out, x);
builder.sample(out);
file.write();
const model = await native.loadModel({
  path: file.path,
  isa: native.isasSupported.at(-1)!,
  threads,
  weights: file.specs,
  program: builder.build(),
  kv: smallKv,
  rowsMax: rows,
  outRowsMax: rows,
});

async function bestUs(sampling: TestSampling, outRows?: number[]) {
  const batch = makeBatch(
    [{ tokenIds: Int32Array.from({ length: rows }, (_, i) => i), outRows }],
    { sampling },
  );
  let best = Infinity;
  for (let i = 0; i < 200; i++) {
    best = Math.min(best, (await model.step(batch)).stepUs);
  }
  return best;
}

const bare = await bestUs({ temperature: 0 }, []);
console.log(`${threads} threads, ${rows} rows of ${vocab} logits`);
for (const [name, sampling] of Object.entries(kinds)) {
  const us = await bestUs(sampling, Array.from({ length: rows }, (_, i) => i));
  console.log(`${name.padEnd(36)} ${(us - bare).toFixed(0).padStart(6)} µs`);
}
await model.close();

/**
 * What a step costs beside the model: `deno run -A lib/engine/step_loop.bench.ts`.
 *
 * 64 sequences decode with a model that answers at once, so the time from one
 * answer to the next step is all ours: handing out tokens, waking 64 readers,
 * planning, filling the batch. Both clocks stand inside the model.
 */
import { mkdirSync, writeFileSync } from "node:fs";
import process from "node:process";
import { StepEngine } from "./engine.ts";
import { type Batch, topLogprobsMax } from "./native.ts";
import { promptOf, run } from "./testing/sequences.ts";

const sequences = 64;
const tokensPerSequence = 900;
const kvBlocks = sequences * 64;

const hostUs: number[] = [];
let answeredMs = 0;
const output = {
  tokens: new Int32Array(sequences).fill(5),
  logprobs: new Float32Array(sequences),
  topIds: new Int32Array(sequences * topLogprobsMax).fill(-1),
  topLogprobs: new Float32Array(sequences * topLogprobsMax),
  stepUs: 1,
};
const engine = new StepEngine({
  model: {
    isa: "ref",
    kv: new Uint8Array(kvBlocks),
    kvBlockBytes: 1,
    weightBytes: 0,
    close: () => Promise.resolve(),
    async step(batch: Batch) {
      const us = 1000 * (performance.now() - answeredMs);
      if (batch.sequences === sequences && answeredMs > 0) hostUs.push(us);
      await new Promise((resolve) => setImmediate(resolve));
      answeredMs = performance.now();
      return output;
    },
  },
  fingerprint: "bench",
  kvType: "f16",
  contextLength: 1024,
  vocabSize: 100,
  hiddenSize: 1,
  layers: 1,
  kvBlocks,
  rowsMax: 256,
  runningMax: sequences,
  waitingMax: sequences,
  now: () => performance.now(),
  onWarning: console.warn,
});
await Promise.all(
  Array.from(
    { length: sequences },
    (_, i) =>
      run(engine, {
        prompt: promptOf(100, i + 1),
        maxTokens: tokensPerSequence,
      }),
  ),
);
await engine[Symbol.asyncDispose]();

hostUs.sort((a, b) => a - b);
const at = (part: number) =>
  Math.round(hostUs[Math.floor(part * hostUs.length)]);
const result = {
  sequences,
  steps: hostUs.length,
  hostUs: { min: at(0), p50: at(0.5), p90: at(0.9) },
  runtime: process.versions.bun
    ? `bun ${process.versions.bun}`
    : `deno ${process.versions.deno}`,
};
mkdirSync("bench-results", { recursive: true });
writeFileSync(
  "bench-results/engine_step_loop.json",
  JSON.stringify(result, null, 2),
);
console.log(
  `${result.runtime}: ${result.steps} steps of ${sequences} sequences, host time per step ` +
    `min ${result.hostUs.min}, median ${result.hostUs.p50}, p90 ${result.hostUs.p90} µs`,
);

// Times llama.cpp on one file: node peer_bench.mjs MODEL THREADS PROMPT GENERATED ROUNDS
// Prints {"load_ms", "prefill_tok_s": [...], "decode_tok_s": [...]}.
import { performance } from "node:perf_hooks";
import { getLlama, LlamaLogLevel } from "node-llama-cpp";

const [model, ...numbers] = process.argv.slice(2);
const [threads, promptTokens, generated, rounds] = numbers.map(Number);
const llama = await getLlama({
  gpu: false,
  build: "never",
  logLevel: LlamaLogLevel.error,
  maxThreads: threads,
});
const loadStart = performance.now();
const loaded = await llama.loadModel({ modelPath: model, gpuLayers: 0 });
const loadMs = performance.now() - loadStart;
const context = await loaded.createContext({
  contextSize: promptTokens + generated + 32,
  batchSize: Math.max(512, promptTokens),
  threads,
  flashAttention: true,
});
const sequence = context.getSequence();

let state = 1;
function randomId() {
  state = (Math.imul(state, 1103515245) + 12345) & 0x7fffffff;
  return 300 + (state >> 8) % 3000;
}

async function round() {
  await sequence.clearHistory();
  const prompt = Array.from({ length: promptTokens }, randomId);
  const start = performance.now();
  let first = 0;
  let last = 0;
  let count = 0;
  for await (
    const _ of sequence.evaluate(prompt, {
      temperature: 0,
      yieldEogToken: true,
    })
  ) {
    last = performance.now();
    if (count++ === 0) first = last;
    if (count > generated) break;
  }
  return {
    prefill: promptTokens / (first - start) * 1000,
    decode: (count - 1) / (last - first) * 1000,
  };
}

await round();
const results = [];
for (let i = 0; i < rounds; i++) results.push(await round());
console.log(JSON.stringify({
  load_ms: loadMs,
  prefill_tok_s: results.map(({ prefill }) => prefill),
  decode_tok_s: results.map(({ decode }) => decode),
}));
await llama.dispose();

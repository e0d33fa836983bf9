// Times llama.cpp on one file: node peer_bench.mjs '{"model": ..., ...}'. What is asked and
// answered is in test/load/probe.ts; test/load/engine_probe.ts does the same with our engine.
import { readFileSync } from "node:fs";
import { performance } from "node:perf_hooks";
import { getLlama, LlamaLogLevel } from "node-llama-cpp";

const request = JSON.parse(process.argv[2]);
const { model, threads, prompt, generated, rounds, batches, long } = request;
const llama = await getLlama({
  gpu: false,
  build: "never",
  logLevel: LlamaLogLevel.error,
  maxThreads: threads,
});
const loadStart = performance.now();
const loaded = await llama.loadModel({ modelPath: model, gpuLayers: 0 });
const loadMs = performance.now() - loadStart;

let state = 1;
function freshPrompt(tokens) {
  return Array.from({ length: tokens }, () => {
    state = (Math.imul(state, 1103515245) + 12345) & 0x7fffffff;
    return 300 + (state >> 8) % 3000;
  });
}

function createContext(contextSize, sequences = 1) {
  return loaded.createContext({
    contextSize,
    sequences,
    batchSize: Math.max(512, prompt),
    threads,
    flashAttention: true,
    batching: { dispatchSchedule: "nextCycle" },
  });
}

/** Times at which tokens came, the start first. */
async function times(sequence, ids, count) {
  const stamps = [performance.now()];
  const tokens = sequence.evaluate(ids, {
    temperature: 0,
    yieldEogToken: true,
  });
  for await (const _ of tokens) {
    stamps.push(performance.now());
    if (stamps.length > count) break;
  }
  return stamps;
}

const rates = ([start, first, ...rest], promptTokens) => ({
  prefill: promptTokens / (first - start) * 1000,
  decode: rest.length / (rest[rest.length - 1] - first) * 1000,
});

const context = await createContext(prompt + generated + 32);
const sequence = context.getSequence();
await times(sequence, freshPrompt(8), 1);
const result = {
  load_ms: loadMs,
  first_token_ms: Date.now() - request.startedAtMs,
  first_rss_mb: Number(
    /VmHWM:\s+(\d+)/.exec(readFileSync("/proc/self/status", "utf8"))[1],
  ) / 1024,
  prefill_tok_s: [],
  decode_tok_s: [],
  batch_tok_s: {},
};
for (let i = 0; i < rounds; i++) {
  await sequence.clearHistory();
  const { prefill, decode } = rates(
    await times(sequence, freshPrompt(prompt), generated + 1),
    prompt,
  );
  result.prefill_tok_s.push(prefill);
  result.decode_tok_s.push(decode);
}
await context.dispose();

for (const count of batches) {
  const together = await createContext(32 + generated + 32, count);
  const sequences = Array.from({ length: count }, () => together.getSequence());
  const stamps = await Promise.all(
    sequences.map(async (one) =>
      (await times(one, freshPrompt(32), generated + 1)).slice(1)
    ),
  );
  const begin = Math.max(...stamps.map((one) => one[0]));
  const end = Math.min(...stamps.map((one) => one[one.length - 1]));
  const within = stamps.flat().filter((at) => at > begin && at <= end).length;
  (result.batch_tok_s[count] ??= []).push(within / (end - begin) * 1000);
  await together.dispose();
}

if (long > 0) {
  const wide = await createContext(long + generated + 32);
  const { prefill, decode } = rates(
    await times(wide.getSequence(), freshPrompt(long), generated + 1),
    long,
  );
  result.long_prefill_tok_s = prefill;
  result.long_decode_tok_s = decode;
}
console.log(JSON.stringify(result));
await llama.dispose();

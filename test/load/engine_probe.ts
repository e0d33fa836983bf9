/**
 * Times our engine on one file, as `test/parity/peer_bench.mjs` times the peer:
 * bun engine_probe.ts MODEL THREADS PROMPT GENERATED ROUNDS
 */
import { engineGenerator } from "./generator.ts";
import { freshPrompt, timeStream } from "./timing.ts";

const [model, ...numbers] = process.argv.slice(2);
const [threads, promptTokens, generated, rounds] = numbers.map(Number);
const loadStart = performance.now();
const generator = await engineGenerator(model, { threads });
const loadMs = performance.now() - loadStart;

const round = () =>
  timeStream(generator, freshPrompt(promptTokens), generated + 1);
await round();
const results = [];
for (let i = 0; i < rounds; i++) results.push(await round());
console.log(JSON.stringify({
  load_ms: loadMs,
  prefill_tok_s: results.map(({ ttftMs }) => promptTokens / ttftMs * 1_000),
  decode_tok_s: results.map(({ tokenMs }) => 1_000 / tokenMs),
}));
await generator[Symbol.asyncDispose]();
process.exit(0);

/**
 * Times our engine on one file, as `test/parity/peer_bench.mjs` times the peer:
 * `bun engine_probe.ts '{"model": ..., "threads": 2, ...}'` (see probe.ts).
 */
import { engineGenerator } from "./engine_generator.ts";
import { peakRssMb, type ProbeRequest, type ProbeResult } from "./probe.ts";
import { freshPrompt, timeStream } from "./timing.ts";

const request: ProbeRequest = JSON.parse(process.argv[2]);
const { model, threads, prompt, generated, rounds, batches, long } = request;
const longest = Math.max(prompt, long) + generated + 64;
const sequences = Math.max(1, ...batches);
const loadStart = performance.now();
const generator = await engineGenerator(model, {
  threads,
  kvBlocks: Math.ceil(longest / 16) + sequences * 16 + 8,
});
const loadMs = performance.now() - loadStart;

const firstPrompt = freshPrompt(8);
await timeStream(generator, firstPrompt, 1);
const result: ProbeResult = {
  load_ms: loadMs,
  // The parent's clock and ours are the same one.
  first_token_ms: Date.now() - request.startedAtMs,
  first_rss_mb: peakRssMb(),
  prefill_tok_s: [],
  decode_tok_s: [],
  batch_tok_s: {},
};
for (let i = 0; i < rounds; i++) {
  const { ttftMs, tokenMs } = await timeStream(
    generator,
    freshPrompt(prompt),
    generated + 1,
  );
  result.prefill_tok_s.push(prompt / ttftMs * 1_000);
  result.decode_tok_s.push(1_000 / tokenMs);
}
for (const count of batches) {
  (result.batch_tok_s[count] ??= []).push(await batchRate(count));
}
if (long > 0) {
  const { tokenMs, ttftMs } = await timeStream(
    generator,
    freshPrompt(long),
    generated + 1,
  );
  result.long_decode_tok_s = 1_000 / tokenMs;
  result.long_prefill_tok_s = long / ttftMs * 1_000;
}
console.log(JSON.stringify(result));
await generator[Symbol.asyncDispose]();
process.exit(0);

/** Tokens per second of all sequences together, while all of them decode. */
async function batchRate(count: number): Promise<number> {
  const stamps = await Promise.all(
    Array.from({ length: count }, async () => {
      const times: number[] = [];
      const stream = generator.generate(freshPrompt(32), generated + 1);
      for await (const tokens of stream) {
        for (let i = 0; i < tokens; i++) times.push(performance.now());
      }
      return times;
    }),
  );
  const begin = Math.max(...stamps.map((times) => times[0]));
  const end = Math.min(...stamps.map((times) => times[times.length - 1]));
  const within = stamps.flat().filter((at) => at > begin && at <= end).length;
  return within / (end - begin) * 1_000;
}

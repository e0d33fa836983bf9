/**
 * Prediction against reality: a real mesh on this machine (one CPU worker, two
 * models) is loaded for some minutes while `recordBus` listens; then the
 * recording is simulated on a profile measured in the same run, and times to
 * first token are compared with those the clients saw.
 *
 * Measured are the requests that waited for nobody: how long a prompt takes by its
 * tokens, and how much that varies on this machine. Predicted is everything that comes
 * of requests meeting one another, from what the mesh itself recorded of their arrivals.
 */
import { mkdirSync, writeFileSync } from "node:fs";
import { availableParallelism, cpus } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { parseArgs } from "node:util";
import { connectBus } from "../../lib/bus/mod.ts";
import { readSse } from "../mesh/read_sse.ts";
import { startMesh } from "../mesh/start_mesh.ts";
import type { Profile } from "./profile.ts";
import { createRandom, type Random } from "./random.ts";
import { recordBus } from "./record_bus.ts";
import { simulateTrace } from "./simulate_trace.ts";
import { readTrace } from "./trace/mod.ts";
import { readRecordedLines } from "./trace/recording.ts";

const help =
  `deno task bench:predict [--json] [--minutes N] [--rate N] [--seed S]

  --json       print one JSON object instead of the table
  --minutes N  length of the recorded run (default 10)
  --rate N     requests per second, both models together (default 1.5)
  --seed S     of arrivals, prompts and the simulation (default 1)

Exits with 1 when a figure is off by more than a fifth.`;

const { values } = parseArgs({
  options: {
    minutes: { type: "string", default: "10" },
    rate: { type: "string", default: "1.5" },
    seed: { type: "string", default: "1" },
    json: { type: "boolean", default: false },
    help: { type: "boolean", default: false },
  },
});
if (values.help) {
  console.log(help);
  process.exit(0);
}
const root = join(import.meta.dirname!, "../..");
const file = join(root, "models/quetzal-demo-q8_0.gguf");
const models = ["model-a", "model-b"];
const outputTokens = 32;
const weightsBytes = 1e7;
const note = (line: string) => console.error(line);

interface Timing {
  readonly model: string;
  readonly startedMs: number;
  readonly ttftMs: number;
  readonly totalMs: number;
  readonly promptTokens: number;
  readonly completionTokens: number;
}

const mesh = await startMesh({
  prefill: 0,
  models: models.map((name) => `${name}=${file}`).join(","),
  env: { QUETZAL_THREADS: "1", QUETZAL_LOG_LEVEL: "warn" },
});
const random = createRandom(`predict/${values.seed}`);
const measured = { single: [] as Timing[], batch: [] as Timing[] };
note("measuring ...");
for (const model of models) await ask(model, 50, 4);
await measure();
note(`loading for ${values.minutes} minutes ...`);
mkdirSync(join(root, "bench-results"), { recursive: true });
const recording = join(root, "bench-results/recording.jsonl");
const timings = await loadAndRecord(recording);
const profile = profileFrom();

const trace = readTrace(recording, {
  seed: values.seed,
  rateScale: 1,
  arrivals: "thin",
  limitMs: Infinity,
});
/** How long each prompt takes is drawn: one drawing alone says little of the 95th percentile. */
const drawings = Array.from({ length: 25 }, (_, i) =>
  simulateTrace(trace, {
    profile,
    policy: "tail",
    seed: `${values.seed}/${i}`,
  }).result);
const result = {
  requests: drawings[0].requests,
  ttft_p50_s: median(drawings.map(({ ttft_s }) => ttft_s.p50)),
  ttft_p95_s: median(drawings.map(({ ttft_s }) => ttft_s.p95)),
  scale_events: Math.max(...drawings.map((each) => each.scale_events)),
};
const real = timings.map(({ ttftMs }) => ttftMs).sort((a, b) => a - b);
const realAt = (quantile: number) =>
  real[Math.min(real.length - 1, Math.floor(quantile * real.length))] / 1000;
const compared = (real: number, simulated: number) => ({
  real,
  simulated,
  off_percent: Math.round(1_000 * (simulated / real - 1)) / 10,
});
const comparison = {
  machine: `${cpus()[0].model}, ${availableParallelism()} cores`,
  date: new Date().toISOString().slice(0, 10),
  minutes: Number(values.minutes),
  requests: compared(real.length, result.requests),
  ttft_p50_s: compared(realAt(0.5), result.ttft_p50_s),
  ttft_p95_s: compared(realAt(0.95), result.ttft_p95_s),
  // Both models were loaded throughout; a mesh run locally has no controller.
  scale_events: { real: 0, simulated: result.scale_events },
  /** Prompt tokens per second: fitted here, and as the workers say in their records. */
  prefill_tokens_per_s: {
    fitted: profile.models[0].prefillTokensPerS,
    reported: reportedRate(recording),
  },
};
const isWithin = comparison.scale_events.simulated === 0 &&
  [comparison.ttft_p50_s, comparison.ttft_p95_s, comparison.requests]
    .every(({ off_percent }) => Math.abs(off_percent) <= 20);
const outcome = { ...comparison, within_20_percent: isWithin };
writeFileSync(
  join(root, "bench-results/prediction.json"),
  JSON.stringify({ profile, ...outcome }, undefined, 2),
);
console.log(values.json ? JSON.stringify(outcome) : table());
await mesh[Symbol.asyncDispose]();
process.exit(isWithin ? 0 : 1);

function table(): string {
  const { requests, ttft_p50_s, ttft_p95_s, scale_events } = comparison;
  const row = (
    name: string,
    { real, simulated, off_percent }: ReturnType<typeof compared>,
    digits = 3,
  ) =>
    `| ${name} | ${real.toFixed(digits)} | ${
      simulated.toFixed(digits)
    } | ${off_percent} % |`;
  return [
    `${comparison.machine}, ${comparison.date}, ${comparison.minutes} minutes`,
    "",
    "| | real mesh | simulated | off |",
    "| --- | --- | --- | --- |",
    row("requests", requests, 0),
    row("first token p50 (s)", ttft_p50_s),
    row("first token p95 (s)", ttft_p95_s),
    `| scale events | ${scale_events.real} | ${scale_events.simulated} | |`,
  ].join("\n");
}

/** What the decode worker said of its own speed, over the run. */
function reportedRate(path: string): number {
  const rates = readRecordedLines(path).flatMap((line) =>
    line.kind === "worker" && line.message.kind === "put"
      ? line.message.record.models.map((each) => each.prefillTokensPerS)
      : []
  ).filter((rate) => rate > 0);
  return rates.length === 0 ? 0 : median(rates);
}

/** What a sequence adds to a step: requests one at a time and four at once. */
async function measure(): Promise<void> {
  for (let i = 0; i < 20; i++) {
    const model = models[i % 2];
    measured.single.push(await ask(model, 40, outputTokens));
    const four = [0, 1, 2, 3].map(() => ask(model, 40, outputTokens));
    measured.batch.push(...await Promise.all(four));
  }
}

/**
 * Rates of the mesh, from the requests of the run that had their engine to themselves
 * until their first token: the speed of a machine with other work on it drifts
 * too much to be measured before. Queueing, and so the spread, is predicted.
 */
function profileFrom(): Profile {
  const lone = timings.filter((timing) => isAlone(timing));
  note(`${lone.length} of ${timings.length} requests waited for nobody`);
  const half = median(lone.map((timing) => timing.promptTokens));
  const short = lone.filter(({ promptTokens }) => promptTokens < half);
  const long = lone.filter(({ promptTokens }) => promptTokens >= half);
  const { batch } = measured;
  const ttft = (timings: Timing[]) => median(timings.map((t) => t.ttftMs));
  const tokens = (timings: Timing[]) =>
    median(timings.map((t) => t.promptTokens));
  const step = (timings: Timing[]) =>
    median(
      timings.map((t) =>
        (t.totalMs - t.ttftMs) / Math.max(1, t.completionTokens - 1)
      ),
    );
  const perTokenMs = (ttft(long) - ttft(short)) /
    (tokens(long) - tokens(short));
  const perSequenceMs = Math.max(0, (step(batch) - step(measured.single)) / 3);
  const overheadMs = Math.max(0, ttft(short) - perTokenMs * tokens(short));
  // How the same prompt takes now longer, now shorter: two engines and everything
  // around them share this machine's cores.
  const prefillFactors = lone.map(({ ttftMs, promptTokens }) =>
    Math.max(0.05, (ttftMs - overheadMs) / (promptTokens * perTokenMs))
  );
  return {
    description: "this machine, one thread an engine, demo model twice",
    gpusMax: 1,
    gpusPerNode: 1,
    weightsBytesPerGpu: 1e9,
    hostBytesPerGpu: 1e9,
    sequencesPerGpu: 64,
    imagePullMs: 0,
    podStartMs: 1_000,
    engineInitMs: 1_000,
    loadFixedMs: 100,
    networkBytesPerS: 1e9,
    diskBytesPerS: 1e9,
    hostBytesPerS: 1e10,
    weightsOnDisk: true,
    sliced: false,
    sharing: true,
    // A step takes prompt rows up to 256, and a row of each answer beside them: prompts
    // hardly notice, answers get a token per chunk.
    prefillShare: 0.97,
    workerFailuresPerDay: 0,
    holdMsMax: 60_000,
    queueMax: 10_000,
    ttftTargetMs: 10_000,
    overheadMs,
    prefillFactors,
    startLoaded: true,
    // Each model has an engine with a thread of its own.
    sideBySide: true,
    startReplicas: 0,
    lengths: {
      promptLogMean: 5,
      promptLogDeviation: 1,
      promptTokensMax: 1000,
      outputLogMean: 3.5,
      outputLogDeviation: 0,
      outputTokensMax: 100,
    },
    models: [{
      name: "demo",
      weight: 1,
      weightsBytes,
      prefillTokensPerS: 1000 / perTokenMs,
      stepMs: Math.max(0.01, step(short) - perSequenceMs),
      stepMsPerSequence: perSequenceMs,
      slots: 32,
    }],
  };
}

/** Nobody else was in its engine between its start and its first token. */
function isAlone(timing: Timing): boolean {
  const firstMs = timing.startedMs + timing.ttftMs;
  return timings.every((other) =>
    other === timing || other.model !== timing.model ||
    other.startedMs >= firstMs ||
    other.startedMs + other.totalMs <= timing.startedMs
  );
}

/** Random arrivals, model a twice as busy as b; nothing waits for anything. */
async function loadAndRecord(path: string): Promise<Timing[]> {
  // The measuring requests have been reported by then.
  await delay(3_000);
  const stop = new AbortController();
  await using bus = await connectBus({
    url: mesh.nats.url,
    name: "record",
    signal: stop.signal,
  });
  const recorded = recordBus(bus, path, stop.signal);
  await delay(500);
  const endMs = performance.now() + Number(values.minutes) * 60_000;
  const pending: Promise<Timing>[] = [];
  while (performance.now() < endMs) {
    const model = random.next() < 2 / 3 ? models[0] : models[1];
    const words = 20 + Math.floor(random.next() * 380);
    pending.push(ask(model, words, outputTokens));
    await delay(random.exponential() * 1000 / Number(values.rate));
  }
  const timings = await Promise.all(pending);
  await delay(2_000);
  stop.abort();
  await recorded;
  return timings;
}

async function ask(
  model: string,
  words: number,
  maxTokens: number,
): Promise<Timing> {
  const startedMs = performance.now();
  const response = await fetch(`${mesh.httpUrl}/v1/completions`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({
      model,
      prompt: randomText(random, words),
      max_tokens: maxTokens,
      ignore_eos: true,
      temperature: 0,
      stream: true,
      stream_options: { include_usage: true },
    }),
  });
  if (!response.ok || !response.body) throw new Error(await response.text());
  let ttftMs = 0;
  let usage = { prompt_tokens: 0, completion_tokens: 0 };
  for await (const data of readSse(response.body)) {
    if (data === "[DONE]") break;
    ttftMs ||= performance.now() - startedMs;
    usage = JSON.parse(data).usage ?? usage;
  }
  return {
    model,
    startedMs,
    ttftMs,
    totalMs: performance.now() - startedMs,
    promptTokens: usage.prompt_tokens,
    completionTokens: usage.completion_tokens,
  };
}

/** Words nobody asked before, so that no prefix is cached. */
function randomText(from: Random, words: number): string {
  const parts = ["red", "sea", "two", "bird", "long", "tail", "sun", "of"];
  return Array.from(
    { length: words },
    () => parts[Math.floor(from.next() * parts.length)],
  ).join(" ");
}

function median(numbers: readonly number[]): number {
  return numbers.toSorted((a, b) => a - b)[numbers.length >> 1];
}

/**
 * What the mesh adds over calling the engine in-process: time to first token,
 * time per token, throughput with 64 streams, memory over many requests.
 */
import { mkdirSync, writeFileSync } from "node:fs";
import { availableParallelism, cpus } from "node:os";
import { parseArgs } from "node:util";
import { type Mesh, startMesh } from "../mesh/start_mesh.ts";
import { meshGenerator } from "./mesh_generator.ts";
import { memoryMb } from "./process_figures.ts";
import { runProbe } from "./run_probe.ts";
import { range, spread } from "./sample.ts";
import { freshPrompt } from "./timing.ts";

const help =
  `deno task bench:mesh [--json] [--rounds N] [--pairs N] [--requests N]

  --json        print one JSON object instead of the table
  --rounds N    streams measured one at a time, per side (default 30)
  --pairs N     throughput measurements, per side (default 5)
  --requests N  requests of the memory check (default 10000)`;

const { values } = parseArgs({
  options: {
    json: { type: "boolean", default: false },
    help: { type: "boolean", default: false },
    rounds: { type: "string", default: "30" },
    pairs: { type: "string", default: "5" },
    requests: { type: "string", default: "10000" },
  },
});
if (values.help) {
  console.log(help);
  process.exit(0);
}

const threads = availableParallelism();
const note = (line: string) => console.error(line);

const env = {
  QUETZAL_RUNNING_MAX: "64",
  QUETZAL_LOG_LEVEL: "warn",
  // The default: what is idle computes prompts of this length itself.
  QUETZAL_ROUTER_PREFILL_IDLE_TOKENS_MIN: "1024",
};
const mesh = await startMesh({ env });
/** Takes long prompts from the prefill worker even so, as a busy mesh does. */
const remote = await startMesh({
  env: { ...env, QUETZAL_ROUTER_PREFILL_IDLE_TOKENS_MIN: "0" },
});
note("measuring latency and throughput, engine and mesh in turn ...");
const probe = await runProbe({
  mesh: mesh.grpcAddress,
  remote: remote.grpcAddress,
}, {
  rounds: Number(values.rounds),
  pairs: Number(values.pairs),
  threads,
  idle: ["remote"],
});
const added = (series: Record<string, number[]>, side = "mesh") =>
  spread(series[side]).p50 - spread(series.engine).p50;
const ratios = probe.throughput.mesh.map((rate, i) =>
  rate / probe.throughput.engine[i]
);
note(`sending ${values.requests} short requests ...`);
const memory = await measureMemory(mesh, Number(values.requests));

const result = {
  machine: `${cpus()[0].model}, ${threads} cores`,
  date: new Date().toISOString().slice(0, 10),
  /** A chat question of 24 tokens, which decode computes itself. */
  ttft_added_ms_p50: added(probe.ttft.short),
  /** A prompt of 320 tokens. */
  ttft_added_long_ms_p50: added(probe.ttft.long),
  /** The same with its KV from the prefill worker. */
  ttft_added_remote_ms_p50: added(probe.ttft.long, "remote"),
  token_added_ms_p50: added(probe.token),
  throughput_ratio_64: spread(ratios).p50,
  throughput_ratio_64_range: range(spread(ratios)),
  ttft_ms: { long: spreads(probe.ttft.long), short: spreads(probe.ttft.short) },
  token_ms: spreads(probe.token),
  tokens_per_s_64: spreads(probe.throughput),
  ...memory,
};
mkdirSync("bench-results", { recursive: true });
writeFileSync("bench-results/mesh.json", JSON.stringify(result, null, 2));
console.log(values.json ? JSON.stringify(result) : table());
await mesh[Symbol.asyncDispose]();
await remote[Symbol.asyncDispose]();
process.exit(0);

function spreads(series: Record<string, number[]>) {
  return Object.fromEntries(
    Object.entries(series).map(([name, samples]) => [name, spread(samples)]),
  );
}

/** Resident memory of router and workers before and after many short requests. */
async function measureMemory(mesh: Mesh, requests: number) {
  await sendMany(mesh, Math.min(500, requests));
  const first = residentMb(mesh);
  const start = performance.now();
  const errors = await sendMany(mesh, requests);
  const seconds = (performance.now() - start) / 1_000;
  const last = residentMb(mesh);
  const sum = (sizes: Record<string, number>) =>
    Object.values(sizes).reduce((total, mb) => total + mb, 0);
  return {
    requests,
    request_errors: errors,
    requests_per_s: requests / seconds,
    rss_first_mb: sum(first),
    rss_last_mb: sum(last),
    rss_by_process_mb: { first, last },
  };
}

async function sendMany(mesh: Mesh, requests: number): Promise<number> {
  await using generator = meshGenerator(mesh.grpcAddress, "quetzal-demo");
  let left = requests;
  let errors = 0;
  const client = async () => {
    while (left-- > 0) {
      try {
        for await (const _ of generator.generate(freshPrompt(20), 2));
      } catch {
        errors++;
      }
    }
  };
  await Promise.all(Array.from({ length: 16 }, client));
  return errors;
}

function residentMb(mesh: Mesh): Record<string, number> {
  return Object.fromEntries(
    mesh.processes.map(({ name, pid }) => [name, memoryMb(pid, "VmRSS")]),
  );
}

function table(): string {
  const ms = (value: number) => `${value.toFixed(2)} ms`;
  const rows = [
    ["", "engine", "mesh", "added"],
    ["first token, 24-token prompt", ...row(probe.ttft.short)],
    ["first token, 320-token prompt", ...row(probe.ttft.long)],
    ["… with KV from the prefill worker", ...row(probe.ttft.long, "remote")],
    ["per token, one stream", ...row(probe.token)],
    [
      "64 streams, tokens/s",
      spread(probe.throughput.engine).p50.toFixed(0),
      spread(probe.throughput.mesh).p50.toFixed(0),
      `ratio ${range(spread(ratios))}`,
    ],
    [
      `memory, ${memory.requests} requests`,
      `first ${memory.rss_first_mb.toFixed(0)} MB`,
      `last ${memory.rss_last_mb.toFixed(0)} MB`,
      `${memory.request_errors} errors, ${memory.requests_per_s.toFixed(0)}/s`,
    ],
  ];
  function row(series: Record<string, number[]>, side = "mesh"): string[] {
    return [
      ms(spread(series.engine).p50),
      ms(spread(series[side]).p50),
      ms(added(series, side)),
    ];
  }
  const title =
    `${result.machine}, ${result.date}, medians; ranges are min–median–max`;
  return [
    title,
    "",
    ...rows.map((cells, i) =>
      `| ${cells.join(" | ")} |${i === 0 ? "\n| --- | --- | --- | --- |" : ""}`
    ),
  ].join("\n");
}

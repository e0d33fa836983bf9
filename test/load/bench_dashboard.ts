/**
 * What the dashboard takes and costs: spans per second on one core and its memory, search in a
 * full store, and what tracing costs the request path.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, writeFileSync } from "node:fs";
import { availableParallelism, cpus, loadavg } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { parseArgs } from "node:util";
import { bunEnv } from "../../infra/local/runtime.ts";
import { freePort, tempDir, waitFor } from "../../lib/testing/mod.ts";
import type {
  StoreState,
  TraceList,
} from "../../services/dashboard/api_types.ts";
import { cpuSeconds, memoryMb } from "./process_figures.ts";
import { cachedRandomModel } from "./random_model.ts";
import { range, type Spread, spread } from "./sample.ts";
import { makeBatches, renew } from "./span_flood.ts";
import { measureTracing, type Ratio } from "./tracing_cost.ts";

const help =
  `deno task bench:dashboard [--json] [--spans N] [--searches N] [--rounds N]

  --json        print one JSON object instead of the table
  --spans N     spans in the store while it is searched (default 1000000; 0: only tracing)
  --searches N  searches of each kind (default 40)
  --rounds N    times that the request path is measured with and without (default 30)`;

const { values } = parseArgs({
  options: {
    json: { type: "boolean", default: false },
    help: { type: "boolean", default: false },
    spans: { type: "string", default: "1000000" },
    searches: { type: "string", default: "40" },
    rounds: { type: "string", default: "30" },
  },
});
if (values.help) {
  console.log(help);
  process.exit(0);
}

const root = new URL("../..", import.meta.url).pathname;
const bun = join(root, "node_modules/@oven/bun-linux-x64/bin/bun");
/** Above the 5,000 that are asked for. */
const pacedRate = 5_500;
const pacedSeconds = 30;
const note = (line: string) => console.error(line);

note("measuring tracing off and on, in turn ...");
const rounds = Number(values.rounds);
/** A token costs this model so little that nothing weighs more beside it. */
const demo = {
  name: "quetzal-demo",
  streams: 16,
  promptTokens: 64,
  maxTokens: 64,
  // Spans leave once a second: those of a side are to leave while it is counted.
  settleMs: 1_500,
  countMs: 3_000,
  rounds,
  warmUpMs: 15_000,
};
const tracing = {
  demo: await measureTracing({
    ...demo,
    captureContent: false,
    collector: "elsewhere",
  }),
  /** As `task up` has it. */
  "demo, up": await measureTracing({
    ...demo,
    captureContent: true,
    collector: "beside",
  }),
  /** A small model as people use them: 1B weights, Q4_0. */
  "1b": await measureTracing({
    name: "1b",
    captureContent: false,
    collector: "elsewhere",
    models: `1b=${cachedRandomModel({ shape: "1b", type: "Q4_0" })}`,
    streams: 8,
    promptTokens: 16,
    maxTokens: 16,
    settleMs: 1_500,
    countMs: 2_000,
    rounds: Math.max(6, Math.ceil(rounds / 2)),
    warmUpMs: 5_000,
  }),
};
if (values.spans === "0") {
  console.log(JSON.stringify(tracing, null, 2));
  process.exit(0);
}
note(`sending ${values.spans} spans, then searching ...`);
const store = await measureStore(Number(values.spans), Number(values.searches));

const result = {
  machine: `${cpus()[0].model}, ${availableParallelism()} cores`,
  load: loadavg().map((value) => Math.round(value * 10) / 10),
  date: new Date().toISOString().slice(0, 10),
  ...store,
  tracing,
};
mkdirSync("bench-results", { recursive: true });
writeFileSync("bench-results/dashboard.json", JSON.stringify(result, null, 2));
console.log(values.json ? JSON.stringify(result) : table());
process.exit(0);

/** One dashboard on one core, filled over its HTTP door and searched meanwhile full. */
async function measureStore(spansWanted: number, searches: number) {
  await using data = await tempDir("bench-dashboard");
  await using dashboard = await startDashboard(data.path);
  const { url, pid } = dashboard;
  const batches = makeBatches();
  let spans = 0;
  note(`  ${pacedRate} spans/s for ${pacedSeconds} s`);
  const pacedCpuS = cpuSeconds(pid);
  const pacedStartMs = performance.now();
  while (performance.now() - pacedStartMs < pacedSeconds * 1_000) {
    const batch = batches[Math.floor(Math.random() * batches.length)];
    renew(batch);
    spans += batch.spans;
    await send(url, batch.bytes);
    const aheadMs = spans / pacedRate * 1_000 -
      (performance.now() - pacedStartMs);
    if (aheadMs > 0) await delay(aheadMs);
  }
  const paced = {
    paced_spans_per_s: spans / ((performance.now() - pacedStartMs) / 1_000),
    paced_core_share: (cpuSeconds(pid) - pacedCpuS) / pacedSeconds,
    paced_rss_peak_mb: memoryMb(pid, "VmHWM"),
  };
  note("  as fast as it takes them");
  const before = spans;
  const startMs = performance.now();
  const startCpuS = cpuSeconds(pid);
  const sender = async (first: number) => {
    for (let i = first; spans < spansWanted; i += 2) {
      const batch = batches[i % batches.length];
      renew(batch);
      spans += batch.spans;
      await send(url, batch.bytes);
    }
  };
  await Promise.all([sender(0), sender(1)]);
  const seconds = (performance.now() - startMs) / 1_000;
  const cpuS = cpuSeconds(pid) - startCpuS;
  const state = await waitFor(async () => {
    const state: StoreState = await getJson(`${url}/api/store`);
    return state.spans + state.received.sampledOut >= spans && state;
  }, { what: "all spans in the store", timeoutMs: 60_000, intervalMs: 200 });
  const peakMb = memoryMb(pid, "VmHWM");
  return {
    ...paced,
    ingest_spans_per_s: (spans - before) / seconds,
    ingest_core_share: cpuS / seconds,
    ingest_rss_peak_mb: peakMb,
    store_spans: state.spans,
    store_traces: state.traces,
    store_bytes_per_span: state.bytes / state.spans,
    spans_lost: state.received.dropped + state.received.rejected,
    search_ms: await measureSearches(url, searches),
    search_rss_mb: memoryMb(pid, "VmHWM"),
  };
}

async function startDashboard(data: string) {
  const port = await freePort();
  const child = spawn("taskset", [
    "-c",
    "0",
    bun,
    join(root, "services/dashboard/main.ts"),
  ], {
    env: {
      ...process.env,
      ...bunEnv,
      QUETZAL_DASHBOARD_PORT: `${port}`,
      QUETZAL_DASHBOARD_DATA: data,
      QUETZAL_DASHBOARD_RETENTION_SIZE: "64GiB",
      // Everything is stored: the dearest case.
      QUETZAL_DASHBOARD_SAMPLE_PER_SECOND: "1000000",
      QUETZAL_CAPTURE_CONTENT: "true",
      QUETZAL_LOG_LEVEL: "warn",
    },
    stdio: ["ignore", "ignore", "inherit"],
  });
  const url = `http://127.0.0.1:${port}`;
  await waitFor(() =>
    fetch(`${url}/health`).then((answer) => answer.ok, () => false)
  );
  return {
    url,
    pid: child.pid!,
    async [Symbol.asyncDispose]() {
      child.kill("SIGTERM");
      await once(child, "exit");
    },
  };
}

async function send(url: string, bytes: Uint8Array): Promise<void> {
  const response = await fetch(`${url}/v1/traces`, {
    method: "POST",
    headers: { "content-type": "application/x-protobuf" },
    body: bytes as Uint8Array<ArrayBuffer>,
  });
  await response.body?.cancel();
  if (!response.ok) throw new Error(`HTTP ${response.status}`);
}

async function getJson<T>(url: string): Promise<T> {
  const response = await fetch(url);
  if (!response.ok) throw new Error(`${url}: HTTP ${response.status}`);
  return await response.json();
}

/** Every kind of search with other values each time, over HTTP as a page asks. */
async function measureSearches(url: string, count: number) {
  const { traces }: TraceList = await getJson(`${url}/api/traces?limit=200`);
  const pick = () => traces[Math.floor(Math.random() * traces.length)];
  const ago = (days: number) =>
    Date.now() - Math.floor(Math.random() * days * 864e5);
  const model = () => `model-${Math.floor(Math.random() ** 3 * 200)}`;
  const tenant = () => `tenant-${Math.floor(Math.random() * 50)}`;
  const kinds: Record<string, () => string> = {
    newest: () => "",
    slowest: () => "?order=slowest",
    "by model": () => `?model=${model()}`,
    "by model, slowest": () => `?model=${model()}&order=slowest`,
    "by tenant and model": () => `?tenant=${tenant()}&model=${model()}`,
    "errors of a tenant": () => `?tenant=${tenant()}&status=error`,
    "by trace id": () => `?traceId=${pick().traceId.slice(0, 10)}`,
    "by request id": () => `?requestId=${pick().requestId}`,
    "by duration": () => `?durationMsMin=9000&durationMsMax=9100`,
    "by prompt and output length": () =>
      `?promptTokensMin=${
        9_000 + Math.floor(Math.random() * 900)
      }&outputTokensMin=50`,
    "by time range": () => {
      const from = ago(6);
      return `?fromMs=${from}&toMs=${from + 3_600_000}`;
    },
    "no match at all": () => "?promptTokensMin=1000000",
  };
  const result: Record<string, Spread & { p95: number }> = {};
  const measure = async (name: string, path: () => string) => {
    const samples: number[] = [];
    for (let i = 0; i < count; i++) {
      const startMs = performance.now();
      await getJson(`${url}${path()}`);
      samples.push(performance.now() - startMs);
    }
    const p95 = samples.sort((a, b) => a - b)[
      Math.ceil(0.95 * samples.length) - 1
    ];
    result[name] = { ...spread(samples), p95 };
  };
  for (const [name, query] of Object.entries(kinds)) {
    await measure(name, () => `/api/traces${query()}`);
  }
  await measure("one trace", () => `/api/traces/${pick().traceId}`);
  await measure(
    "percentiles of a model",
    () => `/api/traces/stats?model=${model()}`,
  );
  await measure("percentiles of all", () => "/api/traces/stats");
  return result;
}

function table(): string {
  const n = (value: number, digits = 0) => value.toFixed(digits);
  const searches = Object.entries(result.search_ms).map(([name, s]) =>
    `| ${name} | ${n(s.p50, 1)} | ${n(s.p95, 1)} | ${n(s.max, 1)} |`
  );
  return `machine: ${result.machine}, load ${
    result.load.join(" ")
  }, ${result.date}

| | measured | wanted |
| --- | ---: | ---: |
| spans per second at a steady pace | ${n(result.paced_spans_per_s)} | ≥ 5,000 |
| share of its one core at that pace | ${
    n(100 * result.paced_core_share)
  } % | ≤ 100 % |
| peak memory at that pace, MB | ${n(result.paced_rss_peak_mb)} | ≤ 300 |
| spans per second as fast as it takes them | ${
    n(result.ingest_spans_per_s)
  } | |
| share of its core meanwhile | ${n(100 * result.ingest_core_share)} % | |
| peak memory meanwhile, MB | ${n(result.ingest_rss_peak_mb)} | |
| spans lost | ${result.spans_lost} | 0 |
| bytes per stored span | ${n(result.store_bytes_per_span)} | |
${tracingRows("demo", "demo model")}
${
    tracingRows(
      "demo, up",
      "demo model, with content to a dashboard on the same cores",
    )
  }
${tracingRows("1b", "1B shape, Q4_0")}

With ${result.store_spans} spans in ${result.store_traces} traces, in ms:

| search | p50 | p95 | max |
| --- | ---: | ---: | ---: |
${searches.join("\n")}

Peak memory after the searches: ${n(result.search_rss_mb)} MB.`;
}

function tracingRows(key: keyof typeof tracing, model: string): string {
  const cost = tracing[key];
  const likely = ({ p50, interval: [low, high] }: Ratio) =>
    `${p50.toFixed(3)} (${low.toFixed(3)} to ${high.toFixed(3)})`;
  const { off, on, control } = cost.cpu_us_per_token;
  return `| ${model}: tokens/s with tracing, ratio to without, median and its 95 % interval | ${
    likely(cost.ratio)
  } | ≥ 0.98 |
| … without, again, ratio to without | ${likely(cost.control_ratio)} | 1 |
| … tokens/s without | ${range(cost.tokens_per_s.off, 0)} | |
| … processor time per token with tracing, ratio to without | ${
    likely(cost.cpu_ratio)
  } | |
| … without, again, ratio to without | ${likely(cost.cpu_control_ratio)} | 1 |
| … what it adds beside the engine's threads, as a share of all | ${
    likely(cost.added_share)
  } | ≤ 0.02 |
| … without, again | ${likely(cost.control_added_share)} | 0 |
| … processor time per token without, with, without, µs | ${
    [off, on, control].map(({ p50 }) => p50.toFixed(1)).join(", ")
  } | |`;
}

/** Our engine against llama.cpp (node-llama-cpp) on the same files and threads. */
import { execFile } from "node:child_process";
import { mkdirSync, statSync, writeFileSync } from "node:fs";
import { cpus } from "node:os";
import { basename, dirname } from "node:path";
import { parseArgs, promisify } from "node:util";
import {
  higherRoof,
  measureRoof,
  type Roof,
} from "../../kernels/bench/measure_roof.ts";
import { plotRatios } from "./plot_ratios.ts";
import type { ProbeRequest, ProbeResult } from "./probe.ts";
import { cachedRandomModel } from "./random_model.ts";
import { range, type Spread, spread } from "./sample.ts";

const help = `deno task bench:engine [--quick] [--json] [--types T,...] [...]

Runs both sides as processes of their own, in turn, and prints the ratio of ours
to the peer's (min–median–max over the pairs) and our share of the machine's roof:
bytes read for decoding, int8 operations for prompts, for batches the nearer of both.
Roofs are measured before and after each of our processes, and the higher one counts:
a machine that others share reads at another rate each minute. The models have the
shape of Llama-3.2-1B and random weights; they are made on first use (5 GB in the
user's cache folder).

  --quick         Q4_0, Q8_0 and Q4_K_M with 2 threads, in about four minutes
  --types T,...   default: Q4_0,Q8_0,Q4_K_M,F16
  --threads N,... default: 1,2
  --pairs N       processes per side and file (default 3; 2 when quick)
  --model FILE    these files instead (repeatable)
  --long N        tokens of the long context (default 8192; 0 when quick: none)
  --json          print one JSON object instead of the table`;

const { values } = parseArgs({
  options: {
    quick: { type: "boolean", default: false },
    json: { type: "boolean", default: false },
    help: { type: "boolean", default: false },
    types: { type: "string" },
    threads: { type: "string" },
    pairs: { type: "string" },
    long: { type: "string" },
    model: { type: "string", multiple: true },
  },
});
if (values.help) {
  console.log(help);
  process.exit(0);
}

const { quick } = values;
const types = (values.types ?? `Q4_0,Q8_0,Q4_K_M${quick ? "" : ",F16"}`)
  .split(",");
const threadCounts = (values.threads ?? (quick ? "2" : "1,2")).split(",")
  .map(Number);
const pairs = Number(values.pairs ?? (quick ? 2 : 3));
const long = Number(values.long ?? (quick ? 0 : 8192));
const root = new URL("../..", import.meta.url).pathname;
const bun = `${root}node_modules/@oven/bun-linux-x64/bin/bun`;

interface File {
  readonly name: string;
  readonly path: string;
  readonly bytes: number;
}

/** One line of the report; `ratio` is ours to the peer's, better is higher but for times. */
interface Result {
  readonly type: string;
  readonly metric: string;
  readonly threads: number;
  /** Medians. */
  readonly ours: number;
  readonly peer: number;
  readonly ratio: Spread;
  /** Median share of the read bandwidth or of the int8 operations, where one bounds. */
  readonly roof_share: number | undefined;
}

interface Metric {
  readonly name: string;
  readonly unit: string;
  readonly read: (result: ProbeResult) => number | undefined;
  readonly roof?: (ours: number, file: File, roof: Roof) => number;
}

const median = (rates: readonly number[] | undefined) =>
  rates && rates.length > 0 ? spread(rates).p50 : undefined;
type Share = NonNullable<Metric["roof"]>;
const readShare: Share = (tokens, file, { readGBps }) =>
  tokens * file.bytes / 1e9 / readGBps;
/** Two operations a weight and token; F16 has no int8 roof. */
const int8Share: Share = (tokens, { name }, { int8Gops }) =>
  name === "F16"
    ? NaN
    : tokens * 2 * weightsOf1b / 1e9 / Math.max(...Object.values(int8Gops));
const weightsOf1b = 1.236e9;

const metrics: readonly Metric[] = [
  {
    name: "decode",
    unit: "tok/s",
    read: (r) => median(r.decode_tok_s),
    roof: readShare,
  },
  {
    name: "prefill",
    unit: "tok/s",
    read: (r) => median(r.prefill_tok_s),
    roof: int8Share,
  },
  ...[1, 4, 8, 16].map((count): Metric => ({
    name: `batch${count}`,
    unit: "tok/s",
    read: (r) => median(r.batch_tok_s[count]),
    roof: (tokens, file, roof) => {
      const read = readShare(tokens / count, file, roof);
      return file.name === "F16"
        ? read
        : Math.max(read, int8Share(tokens, file, roof));
    },
  })),
  {
    name: "decode_8k",
    unit: "tok/s",
    read: (r) => r.long_decode_tok_s,
    // Besides the weights, 8k tokens of KV: 16 layers x 2 x 8 heads x 64 x f16.
    roof: (tokens, { bytes }, { readGBps }) =>
      tokens * (bytes + long * 32_768) / 1e9 / readGBps,
  },
  { name: "prefill_8k", unit: "tok/s", read: (r) => r.long_prefill_tok_s },
  { name: "load", unit: "ms", read: (r) => r.load_ms },
];
const coldMetrics: readonly Metric[] = [
  { name: "cold_start", unit: "ms", read: (r) => r.first_token_ms },
  { name: "rss", unit: "MB", read: (r) => r.first_rss_mb },
];

type Side = (
  request: Omit<ProbeRequest, "startedAtMs">,
) => Promise<ProbeResult>;

const ours = side(bun, `${root}test/load/engine_probe.ts`);
const peer = side("node", `${root}test/parity/peer_bench.mjs`);

function side(command: string, script: string): Side {
  return async (request) => {
    const full: ProbeRequest = { ...request, startedAtMs: Date.now() };
    const { stdout } = await promisify(execFile)(
      command,
      [script, JSON.stringify(full)],
      // A hung side ends the run instead of the evening.
      { cwd: dirname(script), timeout: 900_000, maxBuffer: 1 << 24 },
    );
    return JSON.parse(stdout.slice(stdout.indexOf("{")));
  };
}

const files: File[] = (values.model ??
  types.map((type) => {
    process.stderr.write(`model ${type} ...\n`);
    return cachedRandomModel({ shape: "1b", type });
  })).map((path, i) => ({
    path,
    name: values.model ? basename(path) : types[i],
    bytes: statSync(path).size,
  }));

const results: Result[] = [];
/** All that were measured, by threads. */
const roofs = new Map<number, Roof[]>();
for (const threads of threadCounts) {
  roofs.set(threads, []);
  for (const file of files) await compare(file, threads);
}
report();

function noteRoof(threads: number): Roof {
  const roof = measureRoof(threads);
  roofs.get(threads)!.push(roof);
  return roof;
}

async function compare(file: File, threads: number): Promise<void> {
  const full = {
    model: file.path,
    threads,
    prompt: 512,
    generated: quick ? 32 : 64,
    rounds: 2,
    batches: quick ? [8] : [1, 4, 8, 16],
    long: 0,
  };
  const cold = { ...full, rounds: 0, batches: [], generated: 8 };
  const found: Found = { ours: [], peer: [], roofs: [] };
  const foundCold: Found = { ours: [], peer: [], roofs: [] };
  for (let pair = 0; pair < pairs; pair++) {
    process.stderr.write(
      `${file.name}, ${threads} threads: pair ${pair + 1} of ${pairs}\n`,
    );
    // A long prompt takes the peer most of a minute: once.
    const request = { ...full, long: pair === 0 ? long : 0 };
    const before = noteRoof(threads);
    found.ours.push(await ours(request));
    found.roofs.push(higherRoof(before, noteRoof(threads)));
    found.peer.push(await peer(request));
    foundCold.ours.push(await ours(cold));
    foundCold.peer.push(await peer(cold));
  }
  add(metrics, found, file, threads);
  add(coldMetrics, foundCold, file, threads);
}

/** Pair by pair. */
interface Found {
  readonly ours: ProbeResult[];
  readonly peer: ProbeResult[];
  /** Beside ours; none for a process that does not last. */
  readonly roofs: Roof[];
}

function add(
  metrics: readonly Metric[],
  found: Found,
  file: File,
  threads: number,
): void {
  for (const { name, read, roof } of metrics) {
    const both = found.ours.flatMap((result, i) => {
      const [a, b] = [read(result), read(found.peer[i])];
      return a === undefined || b === undefined ? [] : [[a, b] as const];
    });
    if (both.length === 0) continue;
    const shares = values.model || !roof
      ? []
      : found.roofs.slice(0, both.length).map((beside, i) =>
        roof(both[i][0], file, beside)
      );
    results.push({
      type: file.name,
      metric: name,
      threads,
      ours: spread(both.map(([a]) => a)).p50,
      peer: spread(both.map(([, b]) => b)).p50,
      ratio: spread(both.map(([a, b]) => a / b)),
      roof_share: median(shares),
    });
  }
}

function report(): void {
  const best = roofs.get(Math.max(...threadCounts))!.reduce(higherRoof);
  const output = {
    roof: {
      read_gb_s: best.readGBps,
      amx_int8_tops: best.int8Gops.amx === undefined
        ? undefined
        : best.int8Gops.amx / 1e3,
      int8_gops: best.int8Gops,
    },
    machine: cpus()[0].model,
    date: new Date().toISOString().slice(0, 10),
    results,
  };
  mkdirSync("bench-results", { recursive: true });
  writeFileSync("bench-results/engine.json", JSON.stringify(output, null, 2));
  writeFileSync("bench-results/engine.svg", plotRatios(results));
  console.log(
    values.json ? JSON.stringify(output) : table(output.machine, output.date),
  );
}

function table(machine: string, date: string): string {
  const units = new Map(
    [...metrics, ...coldMetrics].map(({ name, unit }) => [name, unit]),
  );
  const roofLines = [...roofs.values()].map((all) => {
    const { threads, int8Gops } = all.reduce(higherRoof);
    return `${threads} threads: read ${
      range(spread(all.map(({ readGBps }) => readGBps)))
    } GB/s, int8 at most ${
      Object.entries(int8Gops).map(([isa, gops]) => `${gops} (${isa})`)
        .join(", ")
    } Gop/s`;
  });
  return [
    `${machine}, ${date}, medians; ratios are min–median–max over ${pairs} pairs`,
    ...roofLines,
    "",
    "| file | threads | metric | ours | llama.cpp | ours / llama.cpp | of roof |",
    "| --- | --- | --- | --- | --- | --- | --- |",
    ...results.map((row) => {
      const share = row.roof_share;
      return `| ${row.type} | ${row.threads} | ${row.metric}, ${
        units.get(row.metric)
      } | ${row.ours.toFixed(1)} | ${row.peer.toFixed(1)} | ${
        range(row.ratio)
      } | ${
        share === undefined || Number.isNaN(share)
          ? ""
          : `${Math.round(share * 100)} %`
      } |`;
    }),
    "",
    "Plot: bench-results/engine.svg",
  ].join("\n");
}

/**
 * Cold start without and with a cache of packed weights, processes in turn:
 * `deno run -A test/load/bench_cold_start.ts [--type Q4_0] [--runs 5]`.
 */
import { execFile } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { parseArgs, promisify } from "node:util";
import type { ProbeRequest, ProbeResult } from "./probe.ts";
import { cachedRandomModel } from "./random_model.ts";
import { spread } from "./sample.ts";

const { values } = parseArgs({
  options: {
    type: { type: "string", default: "Q4_0" },
    runs: { type: "string", default: "5" },
    threads: { type: "string", default: "2" },
  },
});
const root = new URL("../..", import.meta.url).pathname;
const bun = `${root}node_modules/@oven/bun-linux-x64/bin/bun`;
const loadAverage = () =>
  readFileSync("/proc/loadavg", "utf8").split(" ").slice(0, 3).join(" ");

const model = cachedRandomModel({ shape: "1b", type: values.type });
// Beside the models, so that both are read from the same disk.
const folder = mkdtempSync(join(homedir(), ".cache/quetzal/packed-"));
try {
  const storeStart = performance.now();
  await execute(`${root}lib/engine/testing/packed_probe.ts`, model, folder);
  console.log(
    `first process, until the file is written: ` +
      `${Math.round(performance.now() - storeStart)} ms`,
  );
  await compare();
} finally {
  rmSync(folder, { recursive: true });
}

async function compare(): Promise<void> {
  const sides = { without: undefined, "with": folder };
  const found: Record<string, ProbeResult[]> = { without: [], with: [] };
  console.log(`| cache | load, ms | cold_start, ms | rss, MB | load average |`);
  console.log(`| --- | --- | --- | --- | --- |`);
  for (let run = 0; run < Number(values.runs); run++) {
    for (const [name, packedFolder] of Object.entries(sides)) {
      const load = loadAverage();
      const result = await probe(packedFolder);
      found[name].push(result);
      console.log(`| ${name} | ${figures([result])} | ${load} |`);
    }
  }
  for (const [name, results] of Object.entries(found)) {
    console.log(`| ${name}, median | ${figures(results)} | |`);
  }
}

function figures(results: readonly ProbeResult[]): string {
  const reads = [
    (r: ProbeResult) => r.load_ms,
    (r: ProbeResult) => r.first_token_ms,
    (r: ProbeResult) => r.first_rss_mb,
  ];
  return reads.map((read) => spread(results.map(read)).p50.toFixed(0))
    .join(" | ");
}

async function probe(packedFolder: string | undefined): Promise<ProbeResult> {
  const request: ProbeRequest = {
    model,
    threads: Number(values.threads),
    prompt: 8,
    generated: 1,
    rounds: 0,
    batches: [],
    long: 0,
    packedFolder,
    startedAtMs: Date.now(),
  };
  return JSON.parse(
    await execute(`${root}test/load/engine_probe.ts`, JSON.stringify(request)),
  );
}

async function execute(...args: string[]): Promise<string> {
  return (await promisify(execFile)(bun, args, { timeout: 120_000 })).stdout;
}

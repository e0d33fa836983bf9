/** Our engine against llama.cpp (node-llama-cpp) on the same file and threads. */
import { execFile } from "node:child_process";
import { mkdirSync, statSync, writeFileSync } from "node:fs";
import { cpus } from "node:os";
import { basename } from "node:path";
import { parseArgs, promisify } from "node:util";
import { range, type Spread, spread } from "./sample.ts";

const help =
  `deno task bench:engine [--json] [--model FILE]... [--threads N] [--pairs N]

Runs both sides as processes of their own, in turn, and prints the ratio of ours
to the peer's (min–median–max over the pairs).

  --model FILE  GGUF files (default: the demo model, F16 and Q8_0)
  --threads N   threads on both sides (default 2)
  --pairs N     processes per side and file (default 5)
  --prompt N    prompt tokens (default 512)
  --json        print one JSON object instead of the table`;

const { values } = parseArgs({
  options: {
    json: { type: "boolean", default: false },
    help: { type: "boolean", default: false },
    model: { type: "string", multiple: true },
    threads: { type: "string", default: "2" },
    pairs: { type: "string", default: "5" },
    prompt: { type: "string", default: "512" },
  },
});
if (values.help) {
  console.log(help);
  process.exit(0);
}

const root = new URL("../..", import.meta.url).pathname;
const bun = `${root}node_modules/@oven/bun-linux-x64/bin/bun`;
const generated = 128;
const roundsPerProcess = 3;

interface Timing {
  load_ms: number;
  prefill_tok_s: number[];
  decode_tok_s: number[];
}

interface Result {
  model: string;
  mb: number;
  metric: string;
  threads: number;
  /** Medians. */
  ours: number;
  peer: number;
  ratio: Spread;
}

const run = async (
  command: string,
  script: string,
  model: string,
): Promise<Timing> => {
  const args = [
    script,
    model,
    values.threads,
    values.prompt,
    generated,
    roundsPerProcess,
  ];
  const { stdout } = await promisify(execFile)(command, args.map(String));
  return JSON.parse(stdout);
};
const best = (rates: number[]) => spread(rates).p50;

const models = values.model ??
  [
    `${root}models/quetzal-demo-f16.gguf`,
    `${root}models/quetzal-demo-q8_0.gguf`,
  ];
const results: Result[] = [];
for (const model of models) {
  const ours: Timing[] = [];
  const peers: Timing[] = [];
  for (let pair = 0; pair < Number(values.pairs); pair++) {
    ours.push(await run(bun, `${root}test/load/engine_probe.ts`, model));
    peers.push(await run("node", `${root}test/parity/peer_bench.mjs`, model));
  }
  const metrics = {
    decode: ({ decode_tok_s }: Timing) => best(decode_tok_s),
    prefill: ({ prefill_tok_s }: Timing) => best(prefill_tok_s),
    load: ({ load_ms }: Timing) => load_ms,
  };
  for (const [metric, read] of Object.entries(metrics)) {
    const ratios = ours.map((timing, i) => read(timing) / read(peers[i]));
    results.push({
      model: basename(model),
      mb: statSync(model).size / 1e6,
      metric,
      threads: Number(values.threads),
      ours: spread(ours.map(read)).p50,
      peer: spread(peers.map(read)).p50,
      ratio: spread(ratios),
    });
  }
}
const result = {
  machine: cpus()[0].model,
  date: new Date().toISOString().slice(0, 10),
  prompt: Number(values.prompt),
  results,
};
mkdirSync("bench-results", { recursive: true });
writeFileSync("bench-results/engine.json", JSON.stringify(result, null, 2));
console.log(values.json ? JSON.stringify(result) : table());

function table(): string {
  const unit: Record<string, string> = {
    decode: "tok/s",
    prefill: "tok/s",
    load: "ms",
  };
  return [
    `${result.machine}, ${result.date}, ${values.threads} threads, prompt ${values.prompt}, medians`,
    "",
    "| file | metric | ours | llama.cpp | ours / llama.cpp (min–median–max) |",
    "| --- | --- | --- | --- | --- |",
    ...results.map(({ model, metric, ours, peer, ratio }) =>
      `| ${model} | ${metric}, ${unit[metric]} | ${ours.toFixed(0)} | ${
        peer.toFixed(0)
      } | ${range(ratio)} |`
    ),
  ].join("\n");
}

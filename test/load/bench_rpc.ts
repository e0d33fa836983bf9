/** The request path under Bun and under Deno, side by side in one run. */
import { mkdirSync, writeFileSync } from "node:fs";
import { availableParallelism, cpus } from "node:os";
import { parseArgs } from "node:util";
import { startMesh } from "../mesh/start_mesh.ts";
import { runProbe } from "./run_probe.ts";
import { range, spread } from "./sample.ts";

const help = `deno task bench:rpc [--json] [--rounds N] [--pairs N]

Starts one mesh per runtime and measures both in turn (QUETZAL_RUNTIME chooses
the one that \`task up\` uses).

  --json      print one JSON object instead of the table
  --rounds N  streams measured one at a time, per side (default 30)
  --pairs N   throughput measurements, per side (default 5)`;

const { values } = parseArgs({
  options: {
    json: { type: "boolean", default: false },
    help: { type: "boolean", default: false },
    rounds: { type: "string", default: "30" },
    pairs: { type: "string", default: "5" },
  },
});
if (values.help) {
  console.log(help);
  process.exit(0);
}

const env = { QUETZAL_RUNNING_MAX: "64", QUETZAL_LOG_LEVEL: "warn" };
const bun = await startMesh({ runtime: "bun", env });
const deno = await startMesh({ runtime: "deno", env });
const probe = await runProbe({ bun: bun.grpcAddress, deno: deno.grpcAddress }, {
  rounds: Number(values.rounds),
  pairs: Number(values.pairs),
  threads: availableParallelism(),
});

const measures: [string, Record<string, number[]>][] = [
  ["first token, 320-token prompt (remote prefill), ms", probe.ttft.long],
  ["first token, 24-token prompt (local), ms", probe.ttft.short],
  ["per token, one stream, ms", probe.token],
  ["64 streams, tokens/s", probe.throughput],
];
const rows = measures.map(([what, { engine, bun, deno }]) => ({
  what,
  engine: spread(engine).p50,
  bun: spread(bun).p50,
  deno: spread(deno).p50,
  denoOverBun: range(spread(deno.map((value, i) => value / bun[i]))),
}));
const result = {
  machine: `${cpus()[0].model}, ${availableParallelism()} cores`,
  date: new Date().toISOString().slice(0, 10),
  rows,
};
mkdirSync("bench-results", { recursive: true });
writeFileSync("bench-results/rpc.json", JSON.stringify(result, null, 2));
console.log(values.json ? JSON.stringify(result) : table());
await bun[Symbol.asyncDispose]();
await deno[Symbol.asyncDispose]();
process.exit(0);

function table(): string {
  return [
    `${result.machine}, ${result.date}, medians; ratios are min–median–max`,
    "",
    "| | engine in-process | Bun | Deno | Deno / Bun |",
    "| --- | --- | --- | --- | --- |",
    ...rows.map(({ what, engine, bun, deno, denoOverBun }) =>
      `| ${what} | ${engine.toFixed(2)} | ${bun.toFixed(2)} | ${
        deno.toFixed(2)
      } | ${denoOverBun} |`
    ),
  ].join("\n");
}

/** `deno task simulate`: what a policy would have done with a recorded load. */
import { writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { parseArgs } from "node:util";
import { MeshError } from "../../lib/errors/mesh_error.ts";
import {
  policies,
  policyNames,
} from "../../services/autoscaler/policies/mod.ts";
import type { SimulationResult } from "./measures.ts";
import { plotHtml, plotSvg } from "./plot.ts";
import { readProfile } from "./profile.ts";
import { simulateTrace, type Simulation } from "./simulate_trace.ts";
import { readTrace } from "./trace/mod.ts";

const help =
  `deno task simulate --trace PATH… --policy NAME [--profile FILE] [--seed N] [--json]

  --trace PATH      a trace: Azure CSV, Mooncake JSONL, VTC CSV, a recording of
                    \`deno task record\`, or a ServeGen folder (one model per file);
                    may be given several times
  --policy NAME     ${policyNames.join(", ")}
                    may be given several times
  --profile FILE    hardware and models (default test/sim/profiles/h200_pool.json)
  --seed N          arrivals, lengths and failures (default 1); same seed, same bytes
  --config JSON     fields of the policy's configuration; slotShare is a target as
                    a share of each model's slots
  --rate-scale P    share of a ServeGen trace's requests that is kept (default 0.001)
  --arrivals MODE   thin or stretch: how ServeGen's bursts follow it (default thin)
  --hours H         stop after H hours of the trace
  --svg FILE        plot of the first simulation
  --html FILE       page with the plots of all
  --json            one JSON object a line instead of the table

policies:
${
    policyNames.map((name) => `  ${name.padEnd(12)} ${policies[name].summary}`)
      .join("\n")
  }`;

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    trace: { type: "string", multiple: true },
    policy: { type: "string", multiple: true, default: ["tail"] },
    profile: {
      type: "string",
      default: join(import.meta.dirname!, "profiles/h200_pool.json"),
    },
    seed: { type: "string", default: "1" },
    config: { type: "string", default: "{}" },
    "rate-scale": { type: "string", default: "0.001" },
    arrivals: { type: "string", default: "thin" },
    hours: { type: "string" },
    svg: { type: "string" },
    html: { type: "string" },
    json: { type: "boolean", default: false },
    help: { type: "boolean", default: false },
  },
});
const traces = [...values.trace ?? [], ...positionals];
if (values.help || traces.length === 0) {
  console.log(help);
  process.exit(values.help ? 0 : 2);
}

try {
  const simulations = traces.flatMap((path) =>
    values.policy.map((policy) => ({ path, ...simulate(path, policy) }))
  );
  const titleOf = (simulation: Simulation) => {
    const { path } = simulations.find(({ result }) =>
      result === simulation.result
    )!;
    return `${simulation.result.policy} on ${basename(path)}`;
  };
  if (values.svg) {
    const first = simulations[0];
    writeFileSync(values.svg, plotSvg(first, { title: titleOf(first) }));
  }
  if (values.html) writeFileSync(values.html, plotHtml(simulations, titleOf));
  if (values.json) {
    for (const { result } of simulations) console.log(JSON.stringify(result));
  } else {
    for (const { path, result } of simulations) print(path, result);
  }
} catch (error) {
  if (!(error instanceof MeshError || error instanceof SyntaxError)) {
    throw error;
  }
  console.error(error.message);
  process.exit(2);
}

function simulate(path: string, policy: string): Simulation {
  const trace = readTrace(path, {
    seed: values.seed,
    rateScale: Number(values["rate-scale"]),
    arrivals: values.arrivals === "stretch" ? "stretch" : "thin",
    limitMs: values.hours ? Number(values.hours) * 3_600_000 : Infinity,
  });
  return simulateTrace(trace, {
    profile: readProfile(values.profile),
    policy,
    config: JSON.parse(values.config) as Record<string, unknown>,
    seed: values.seed,
  });
}

function print(path: string, result: SimulationResult): void {
  const { p50, p95, p99 } = result.ttft_s;
  const rows = [
    ["requests", result.requests],
    ["first token in time", `${(result.slo_attainment * 100).toFixed(3)} %`],
    ["TTFT p50 / p95 / p99", `${p50} / ${p95} / ${p99} s`],
    ["GPU-hours", result.gpu_hours],
    ["replica-hours", result.replica_hours],
    ["scale events", result.scale_events],
    ["reversals", result.reversals],
    ["cold starts", result.cold_starts],
    ["overloaded", `${result.overloaded_s} s`],
  ];
  console.log(`${result.policy} on ${path}`);
  for (const [name, value] of rows) {
    console.log(`  ${String(name).padEnd(22)}${value}`);
  }
}

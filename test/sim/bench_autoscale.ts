/**
 * All policies over all traces, each at its best parameters; writes
 * docs/benchmarks/autoscaling.md and bench-results/autoscaling.json.
 */
import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { cpus } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { autoscalingReport, type BenchResults } from "./bench_report.ts";
import { type Profile, readProfile } from "./profile.ts";
import {
  cheapestFirst,
  manyModelSettings,
  oneModelSettings,
  runSetting,
  type Setting,
  type SweepRow,
} from "./sweep.ts";
import { readTrace, type Trace, type TraceOptions } from "./trace/mod.ts";

const help =
  `deno task bench:autoscale [--traces DIR] [--days N] [--sweep-days N]

  --traces DIR      traces (default ../shared/traces when there, else the samples)
  --days N          days of ServeGen for the final comparison (default 14)
  --sweep-days N    days of ServeGen for the sweep and the variations (default 2)
  --seed N          seed of arrivals, lengths and failures (default 1)`;

const { values } = parseArgs({
  options: {
    traces: { type: "string" },
    days: { type: "string", default: "14" },
    "sweep-days": { type: "string", default: "2" },
    seed: { type: "string", default: "1" },
    help: { type: "boolean", default: false },
  },
});
if (values.help) {
  console.log(help);
  process.exit(0);
}

const here = import.meta.dirname!;
const shared = join(here, "../../../shared/traces");
const samples = join(here, "sample-traces");
const folder = values.traces ?? (existsSync(shared) ? shared : samples);
const { seed } = values;
const sloShare = 0.99;
const dayMs = 86_400_000;
const pool = readProfile(join(here, "profiles/h200_pool.json"));
const single = readProfile(join(here, "profiles/one_model_8_slots.json"));
const note = (line: string) => console.error(line);

const servegen = (days: number, options: Partial<TraceOptions> = {}) =>
  open("servegen/m-mid", { limitMs: days * dayMs, ...options });

const sweepDays = Number(values["sweep-days"]);
const swept = runAll(
  servegen(sweepDays),
  pool,
  manyModelSettings,
  `sweep, ${sweepDays} days`,
);
const results: BenchResults = {
  machine: `${cpus()[0].model}, ${cpus().length} cores`,
  date: new Date().toISOString().slice(0, 10),
  traces: folder === samples ? "samples" : "full traces",
  days: Number(values.days),
  sweepDays,
  swept,
  final: finals(servegen(Number(values.days)), swept),
  variations: variations(),
  single: [
    "AzureLLMInferenceTrace_conv.csv",
    "mooncake_conversation_trace.jsonl",
  ].map((file) => {
    const trace = open(file);
    return {
      trace: file,
      rows: runAll(trace, single, oneModelSettings, file),
    };
  }),
  adapters: runAll(
    open("vtc_arena_27models.csv"),
    pool,
    manyModelSettings.filter(({ policy, label }) =>
      policy === "tail" || policy === "scheduled" || label.includes("70 %")
    ),
    "vtc_arena_27models.csv",
  ),
};
mkdirSync("bench-results", { recursive: true });
mkdirSync("docs/benchmarks", { recursive: true });
writeFileSync("bench-results/autoscaling.json", JSON.stringify(results));
const report = autoscalingReport(results);
writeFileSync("docs/benchmarks/autoscaling.md", report);
console.log(report);

function open(name: string, options: Partial<TraceOptions> = {}): Trace {
  return readTrace(join(folder, name), {
    seed,
    rateScale: 0.001,
    arrivals: "thin",
    limitMs: Infinity,
    ...options,
  });
}

function runAll(
  trace: Trace,
  profile: Profile,
  settings: readonly Setting[],
  what: string,
): SweepRow[] {
  return settings.map((setting) => {
    const row = runSetting(trace, profile, setting, seed);
    const { slo_attainment, gpu_hours } = row.result;
    note(
      `${what}: ${setting.policy} (${setting.label}): ${slo_attainment} in time, ${gpu_hours} GPU-hours, ${
        row.wallS.toFixed(1)
      } s`,
    );
    return row;
  });
}

/**
 * Each policy's cheapest setting that meets the target over the whole trace:
 * from the cheapest that met it in the sweep, up until one does, then down
 * while they still do.
 */
function finals(trace: Trace, rows: readonly SweepRow[]): SweepRow[] {
  const policies = [...new Set(rows.map(({ policy }) => policy))];
  const what = `${values.days} days`;
  return policies.map((policy) => {
    const own = rows.filter((row) => row.policy === policy)
      .sort((a, b) => a.result.gpu_hours - b.result.gpu_hours);
    const meets = (row: SweepRow) => row.result.slo_attainment >= sloShare;
    const over = (index: number) => runAll(trace, pool, [own[index]], what)[0];
    let index = own.findIndex(meets);
    if (index < 0) index = own.length - 1;
    let best = over(index);
    const first = index;
    while (!meets(best) && index + 1 < own.length) best = over(++index);
    for (index = first - 1; index >= 0 && meets(best); index--) {
      const cheaper = over(index);
      if (!meets(cheaper)) break;
      best = cheaper;
    }
    return best;
  });
}

/** How the comparison changes with what we assumed. */
function variations(): BenchResults["variations"] {
  const fastPods = {
    ...pool,
    podStartMs: 1_000,
    engineInitMs: 2_000,
    imagePullMs: 0,
  };
  const cases = [
    { label: "as above", trace: servegen(sweepDays), profile: pool },
    {
      label: "a third of the requests",
      trace: servegen(sweepDays, { rateScale: 0.0003 }),
      profile: pool,
    },
    {
      label: "three times the requests",
      trace: servegen(sweepDays, { rateScale: 0.003 }),
      profile: pool,
    },
    {
      label: "gaps stretched, bursts kept whole",
      trace: servegen(sweepDays, { arrivals: "stretch" }),
      profile: pool,
    },
    {
      label: "pods that start in 3 s",
      trace: servegen(sweepDays),
      profile: fastPods,
    },
    {
      label: "rivals' pods cut GPUs to the byte",
      trace: servegen(sweepDays),
      profile: { ...pool, sliced: true },
    },
  ];
  const settings = manyModelSettings.filter(({ policy, label }) =>
    policy === "tail" || (policy === "knative-kpa" && label.includes("70 %"))
  );
  return cases.map(({ label, trace, profile }) => {
    const rows = label === "as above"
      ? swept.filter((row) =>
        settings.some((setting) =>
          setting.policy === row.policy && setting.label === row.label
        )
      )
      : runAll(trace, profile, settings, label);
    const rivals = rows.filter(({ policy }) => policy !== "tail");
    const fit = cheapestFirst(rivals, sloShare);
    return {
      label,
      tail: rows.find(({ policy }) => policy === "tail")!,
      rival: fit[0] ??
        rivals.toSorted((a, b) =>
          b.result.slo_attainment - a.result.slo_attainment
        )[0],
    };
  });
}

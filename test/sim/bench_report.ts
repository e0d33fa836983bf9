/** The page docs/benchmarks/autoscaling.md, from the results of one run. */
import type { SweepRow } from "./sweep.ts";

export interface BenchResults {
  readonly machine: string;
  readonly date: string;
  readonly traces: string;
  readonly days: number;
  readonly sweepDays: number;
  readonly swept: readonly SweepRow[];
  readonly final: readonly SweepRow[];
  readonly variations: readonly {
    readonly label: string;
    readonly tail: SweepRow;
    readonly rival: SweepRow;
  }[];
  readonly single: readonly {
    readonly trace: string;
    readonly rows: readonly SweepRow[];
  }[];
  readonly adapters: readonly SweepRow[];
}

const sloShare = 0.99;

export function autoscalingReport(results: BenchResults): string {
  return [
    intro(results),
    verdict(results),
    finalTable(results),
    variationTable(results),
    ...results.single.map(({ trace, rows }) => singleTable(trace, rows)),
    section("27 adapters (VTC arena), 10 minutes, each adapter as one model", [
      "Everything starts from nothing here, so ten minutes mostly show cold starts.",
      "",
      table(results.adapters),
    ]),
    section(`The sweep: every setting, ${results.sweepDays} days of m-mid`, [
      table(results.swept),
    ]),
  ].join("\n");
}

function intro(results: BenchResults): string {
  return `# Scaling policies over recorded traffic

${results.date}, \`deno task bench:autoscale\`, ${results.machine} (simulated time; wall times are this machine's,
shared with other work), ${results.traces}.

**What is simulated.** ServeGen m-mid (Apache-2.0): 109 client streams, each taken as one model, ${results.days} days.
One request in 1,000 of the provider's is kept (thinned; 1.8 requests/s in all, half of them to one
model, half of the models below 4 an hour). Prompt and output lengths follow the Azure conversation
trace. Hardware and models: \`test/sim/profiles/h200_pool.json\` (H200-like, 80 GB of weights a GPU; half
8B, the rest 14B, 32B and 70B, by a hash of the name). Target: first token within 10 s.

**What the rivals can do.** Every model is a deployment of its own, one GPU a pod. Knative's activator
and \`target\` hold requests and scale from zero; HPA and AIBrix keep at least one. Pods start on nodes that
have image and weights nearest; a pod starts in 21 s plus loading. Queues are central and the least
busy pod is chosen, for all. Each rival gets its cheapest setting that meets the target: the sweep below
finds it on the first days, and it is moved up or down until it is the cheapest for the whole trace.
\`tail\` runs on a pool of workers that load models while running; its workers start as slowly as the
rivals' pods, and it runs with its defaults. Workers crash once in 50 days, for all.
`;
}

function verdict(results: BenchResults): string {
  const tail = results.final.find(({ policy }) => policy === "tail");
  const rivals = results.final
    .filter(({ policy, result }) =>
      policy !== "tail" && result.slo_attainment >= sloShare
    )
    .sort((a, b) => a.result.gpu_hours - b.result.gpu_hours);
  if (!tail || !rivals[0]) return "";
  const share = tail.result.gpu_hours / rivals[0].result.gpu_hours;
  return `**Result.** \`tail\` gives ${
    percent(tail.result.slo_attainment)
  } of the requests their first token in time with ${
    Math.round(tail.result.gpu_hours)
  } GPU-hours; the best rival that reaches 99 %, ${rivals[0].policy} (${
    rivals[0].label
  }), needs ${Math.round(rivals[0].result.gpu_hours)}: **${
    percent(share)
  }** of its cost (goal: at most 40 %).
`;
}

function finalTable(results: BenchResults): string {
  return section(
    `109 models, ${results.days} days, each policy at its best`,
    [table(results.final)],
  );
}

function variationTable(results: BenchResults): string {
  const rows = results.variations.map(({ label, tail, rival }) => [
    label,
    percent(tail.result.slo_attainment),
    hours(tail),
    `${rival.label}`,
    percent(rival.result.slo_attainment),
    hours(rival),
    percent(tail.result.gpu_hours / rival.result.gpu_hours),
  ]);
  return section(
    `What the result depends on (${results.sweepDays} days, against Knative at its best, target 70 %)`,
    [
      markdown([
        "assumption",
        "tail in time",
        "GPU-h",
        "Knative",
        "in time",
        "GPU-h",
        "tail / Knative",
      ], rows),
      "",
      "Where nobody reaches 99 %, the setting with the most requests in time is shown. Stretched gaps keep",
      "bursts of hundreds of requests whole at a thousandth of the traffic; see `trace/servegen.ts`. Cut GPUs: a",
      "pod counts as the share of a GPU its weights take, yet runs at full speed and needs no room for KV; no",
      "partitioning gives that much, so the row is a bound: with it the goal of 40 % is missed.",
    ],
  );
}

function singleTable(trace: string, rows: readonly SweepRow[]): string {
  return section(
    `One model: ${trace} (8 slots a pod, 120 s start, 8 pods at first)`,
    [table(rows)],
  );
}

function section(title: string, lines: readonly string[]): string {
  return `## ${title}\n\n${lines.join("\n")}\n`;
}

function table(rows: readonly SweepRow[]): string {
  return markdown(
    [
      "policy",
      "setting",
      "in time",
      "TTFT p50 / p95 / p99 (s)",
      "GPU-h",
      "scale events",
      "reversals",
      "cold starts",
      "overloaded (s)",
      "wall (s)",
    ],
    rows.map((row) => {
      const { result } = row;
      const { p50, p95, p99 } = result.ttft_s;
      return [
        row.policy,
        row.label,
        percent(result.slo_attainment),
        [p50, p95, p99].map((value) => value.toFixed(2)).join(" / "),
        hours(row),
        String(result.scale_events),
        String(result.reversals),
        String(result.cold_starts),
        String(Math.round(result.overloaded_s)),
        row.wallS.toFixed(1),
      ];
    }),
  );
}

function markdown(
  head: readonly string[],
  rows: readonly (readonly string[])[],
): string {
  const line = (cells: readonly string[]) => `| ${cells.join(" | ")} |`;
  return [line(head), line(head.map(() => "---")), ...rows.map(line)].join(
    "\n",
  );
}

function hours(row: SweepRow): string {
  const value = row.result.gpu_hours;
  return value >= 100 ? String(Math.round(value)) : value.toFixed(1);
}

function percent(share: number): string {
  return `${(share * 100).toFixed(share > 0.99 && share < 1 ? 2 : 1)} %`;
}

/**
 * Where the processor time of 64 streams goes, by process and thread, beside the engine
 * alone: `bun test/load/stream_cost.ts [pairs] [tokens of an answer]`.
 */
import { availableParallelism } from "node:os";
import { startMesh } from "../mesh/start_mesh.ts";
import { engineGenerator } from "./engine_generator.ts";
import { meshGenerator } from "./mesh_generator.ts";
import { threadSeconds } from "./process_figures.ts";
import { demoPath } from "./run_probe.ts";
import { spread } from "./sample.ts";
import { timeThroughput } from "./timing.ts";

const pairs = Number(process.argv[2] ?? 6);
const load = {
  streams: 64,
  promptTokens: 24,
  maxTokens: Number(process.argv[3] ?? 96),
  seconds: 2.5,
};

const mesh = await startMesh({
  prefill: 0,
  env: {
    QUETZAL_RUNNING_MAX: "64",
    QUETZAL_LOG_LEVEL: "warn",
    QUETZAL_ROUTER_PREFILL_IDLE_TOKENS_MIN: "1024",
  },
});
const processes = new Map<string, number>([
  ["client", process.pid],
  ...mesh.processes.map(({ name, pid }) => [name, pid] as const),
]);
const sides = {
  engine: await engineGenerator(demoPath, {
    threads: availableParallelism(),
    runningMax: 64,
  }),
  mesh: meshGenerator(mesh.grpcAddress, "quetzal-demo"),
};
type Side = keyof typeof sides;

const rates: Record<Side, number[]> = { engine: [], mesh: [] };
/** Microseconds per token, by process and thread. */
const costs: Record<Side, Map<string, number[]>> = {
  engine: new Map(),
  mesh: new Map(),
};
for (const side of Object.keys(sides) as Side[]) {
  await timeThroughput(sides[side], { ...load, seconds: 20 });
}
for (let pair = 0; pair < pairs; pair++) {
  for (const side of Object.keys(sides) as Side[]) {
    const before = threadTimes();
    const startMs = performance.now();
    const rate = await timeThroughput(sides[side], load);
    const tokens = rate * (performance.now() - startMs) / 1_000;
    rates[side].push(rate);
    for (const [thread, seconds] of threadTimes()) {
      const us = (seconds - (before.get(thread) ?? 0)) * 1e6 / tokens;
      if (us === 0) continue;
      const series = costs[side].get(thread) ?? [];
      costs[side].set(thread, [...series, us]);
    }
  }
}
const ratios = rates.mesh.map((rate, i) => rate / rates.engine[i]);
console.log(JSON.stringify(
  {
    tokens_per_s: {
      engine: spread(rates.engine),
      mesh: spread(rates.mesh),
    },
    ratio: spread(ratios),
    us_per_token: { engine: table("engine"), mesh: table("mesh") },
  },
  null,
  1,
));
await sides.engine[Symbol.asyncDispose]();
await mesh[Symbol.asyncDispose]();
process.exit(0);

function table(side: Side): Record<string, number> {
  const rows = [...costs[side]].map(([thread, series]) => {
    const sum = series.reduce((total, us) => total + us, 0);
    return [thread, Math.round(sum / pairs * 10) / 10] as const;
  });
  return Object.fromEntries(
    rows.filter(([, us]) => us >= 0.1).sort(([, a], [, b]) => b - a),
  );
}

/** Seconds of processor time so far, by process and thread. */
function threadTimes(): Map<string, number> {
  const times = new Map<string, number>();
  for (const [name, pid] of processes) {
    for (const [thread, seconds] of threadSeconds(pid)) {
      times.set(`${name}/${thread}`, seconds);
    }
  }
  return times;
}

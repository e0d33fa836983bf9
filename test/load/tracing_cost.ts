/** What tracing costs the request path: meshes with it and without, in turn. */
import { setTimeout as delay } from "node:timers/promises";
import type { StoreState } from "../../services/dashboard/api_types.ts";
import { type Mesh, startMesh } from "../mesh/start_mesh.ts";
import { meshGenerator } from "./generator.ts";
import { cpuSeconds } from "./process_figures.ts";
import { type Spread, spread } from "./sample.ts";
import { timeThroughput } from "./timing.ts";

const sides = ["off", "control", "on"] as const;
type Side = typeof sides[number];
type PerSide<T> = Record<Side, T>;

export interface TracingCost {
  readonly tokens_per_s: PerSide<Spread>;
  /** Of the rates, with tracing to without, pair by pair. */
  readonly ratio: Spread;
  /** The same of two meshes without tracing. */
  readonly control_ratio: Spread;
  /** Of router and workers. */
  readonly cpu_us_per_token: PerSide<Spread>;
  readonly spans: number;
}

/**
 * Three meshes side by side, of which one has work at any time: without tracing, the same
 * again, and one that sends every span, texts included, to a dashboard on this machine. Two
 * equal meshes differ too (where their memory lies, what else runs), so a ratio says something
 * only beside theirs; the processor time per token is the steadier measure.
 */
export async function measureTracing(
  { name, models, streams, pairs, warmUps }: {
    /** The model to ask. */
    readonly name: string;
    /** QUETZAL_MODELS; the demo model unless set. */
    readonly models?: string;
    readonly streams: number;
    readonly pairs: number;
    /** Rounds that do not count. */
    readonly warmUps: number;
  },
): Promise<TracingCost> {
  const env = { QUETZAL_RUNNING_MAX: "32", QUETZAL_LOG_LEVEL: "warn" };
  const common = { prefill: 0, ...(models && { models }) };
  await using off = await startMesh({ ...common, env });
  await using control = await startMesh({ ...common, env });
  await using on = await startMesh({
    ...common,
    env: { ...env, QUETZAL_CAPTURE_CONTENT: "true" },
    // As `task up` starts it.
    dashboard: { QUETZAL_DASHBOARD_NICE: "10" },
  });
  const meshes: PerSide<Mesh> = { off, control, on };
  const rates: PerSide<number[]> = { off: [], control: [], on: [] };
  const cpuUs: PerSide<number[]> = { off: [], control: [], on: [] };
  for (let round = -warmUps; round < pairs; round++) {
    // Whoever is first changes, so that a drift of the machine hits all.
    for (let k = 0; k < sides.length; k++) {
      const side = sides[(round + warmUps + k) % sides.length];
      const measured = await measure(meshes[side], { name, streams });
      if (round < 0) continue;
      rates[side].push(measured.rate);
      cpuUs[side].push(measured.cpuUs);
    }
  }
  const answer = await fetch(`${on.dashboardUrl}/api/store`);
  const { received }: StoreState = await answer.json();
  return {
    tokens_per_s: spreads(rates),
    ratio: ratios(rates.on, rates.off),
    control_ratio: ratios(rates.control, rates.off),
    cpu_us_per_token: spreads(cpuUs),
    spans: received.spans,
  };
}

async function measure(
  mesh: Mesh,
  { name, streams }: { name: string; streams: number },
): Promise<{ rate: number; cpuUs: number }> {
  const path = mesh.processes.filter(({ role }) => role !== "dashboard");
  const used = () => path.reduce((sum, { pid }) => sum + cpuSeconds(pid), 0);
  await using generator = meshGenerator(mesh.grpcAddress, name);
  const before = used();
  const load = { streams, promptTokens: 64, maxTokens: 64, seconds: 3 };
  const { rate, tokens } = await timeThroughput(generator, load);
  // Exporters send once a second.
  await delay(1_500);
  return { rate, cpuUs: (used() - before) / tokens * 1e6 };
}

function spreads(samples: PerSide<number[]>): PerSide<Spread> {
  return {
    off: spread(samples.off),
    control: spread(samples.control),
    on: spread(samples.on),
  };
}

function ratios(of: number[], to: number[]): Spread {
  return spread(of.map((value, i) => value / to[i]));
}

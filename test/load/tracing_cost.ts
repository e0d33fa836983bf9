/** What tracing costs the request path: requests with it and without, in turn. */
import { randomBytes } from "node:crypto";
import { setTimeout as delay } from "node:timers/promises";
import type { StoreState } from "../../services/dashboard/api_types.ts";
import { type Mesh, startMesh } from "../mesh/start_mesh.ts";
import { meshGenerator } from "./mesh_generator.ts";
import { cpuSeconds } from "./process_figures.ts";
import { type Spread, spread } from "./sample.ts";
import { type Answers, timeAnswers } from "./timing.ts";

const sides = ["none", "off", "control", "on"] as const;
/**
 * none: a mesh of its own that has nowhere to send spans. The others are one mesh with a
 * dashboard: off and control, the same again, ask with a trace that is not sampled, on
 * with one that is.
 */
type Side = typeof sides[number];
type PerSide<T> = Record<Side, T>;

export interface TracingCost {
  readonly tokens_per_s: PerSide<Spread>;
  /** Of the rates, on to off, pair by pair. */
  readonly ratio: Spread;
  /** Control to off: what the machine makes of two equal things. */
  readonly control_ratio: Spread;
  /** Of router and worker. */
  readonly cpu_us_per_token: PerSide<Spread>;
  readonly spans: number;
}

/**
 * Asks the same processes with and without tracing: two meshes differ, by where their
 * memory lies and what their compilers made of them, by more than tracing costs. With it,
 * every span and all texts go to a dashboard on this machine, which runs as `task up`
 * starts it and whose own time does not count.
 */
export async function measureTracing(
  { name, models, load, pairs, warmUps }: {
    /** The model to ask. */
    readonly name: string;
    /** QUETZAL_MODELS; the demo model unless set. */
    readonly models?: string;
    readonly load: Answers;
    readonly pairs: number;
    /** Rounds that do not count. */
    readonly warmUps: number;
  },
): Promise<TracingCost> {
  const env = { QUETZAL_RUNNING_MAX: "32", QUETZAL_LOG_LEVEL: "warn" };
  const common = { prefill: 0, ...(models && { models }) };
  await using none = await startMesh({ ...common, env });
  await using traced = await startMesh({
    ...common,
    env: { ...env, QUETZAL_CAPTURE_CONTENT: "true" },
    dashboard: { QUETZAL_DASHBOARD_NICE: "10" },
  });
  const measures: PerSide<() => Promise<Measured>> = {
    none: () => measure(none, name, load),
    off: () => measure(traced, name, load, "00"),
    control: () => measure(traced, name, load, "00"),
    on: () => measure(traced, name, load, "01"),
  };
  const measured: PerSide<Measured[]> = {
    none: [],
    off: [],
    control: [],
    on: [],
  };
  for (let round = -warmUps; round < pairs; round++) {
    // Whoever is first changes, so that a drift of the machine hits all.
    for (let k = 0; k < sides.length; k++) {
      const side = sides[(round + warmUps + k) % sides.length];
      const result = await measures[side]();
      if (round >= 0) measured[side].push(result);
    }
  }
  const answer = await fetch(`${traced.dashboardUrl}/api/store`);
  const { received }: StoreState = await answer.json();
  return {
    tokens_per_s: spreads(measured, ({ rate }) => rate),
    ratio: ratios(measured.on, measured.off),
    control_ratio: ratios(measured.control, measured.off),
    cpu_us_per_token: spreads(measured, ({ cpuUs }) => cpuUs),
    spans: received.spans,
  };
}

interface Measured {
  /** Tokens per second. */
  readonly rate: number;
  /** Per token. */
  readonly cpuUs: number;
}

async function measure(
  mesh: Mesh,
  name: string,
  load: Answers,
  flags?: "00" | "01",
): Promise<Measured> {
  const path = mesh.processes.filter(({ role }) => role !== "dashboard");
  const used = () => path.reduce((sum, { pid }) => sum + cpuSeconds(pid), 0);
  await using generator = meshGenerator(
    mesh.grpcAddress,
    name,
    flags && (() => ({ traceparent: traceParent(flags) })),
  );
  const before = used();
  const { rate, tokens } = await timeAnswers(generator, load);
  // Exporters send once a second.
  await delay(1_500);
  return { rate, cpuUs: (used() - before) / tokens * 1e6 };
}

/** W3C Trace Context: version, trace, span, flags; 01 is sampled. */
function traceParent(flags: "00" | "01"): string {
  const trace = randomBytes(16).toString("hex");
  return `00-${trace}-${randomBytes(8).toString("hex")}-${flags}`;
}

function spreads(
  measured: PerSide<Measured[]>,
  of: (each: Measured) => number,
): PerSide<Spread> {
  const one = (side: Side) => spread(measured[side].map(of));
  return {
    none: one("none"),
    off: one("off"),
    control: one("control"),
    on: one("on"),
  };
}

function ratios(of: readonly Measured[], to: readonly Measured[]): Spread {
  return spread(of.map(({ rate }, i) => rate / to[i].rate));
}

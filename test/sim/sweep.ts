/**
 * Finds each policy's cheapest parameters that meet the target on a trace, so
 * that a comparison sets each policy at its best and not at its defaults.
 */
import type { SimulationResult } from "./measures.ts";
import type { Profile } from "./profile.ts";
import { simulateTrace } from "./simulate_trace.ts";
import { scheduleFrom } from "./schedule_from.ts";
import type { Trace } from "./trace/mod.ts";

export interface Setting {
  readonly policy: string;
  /** As a reader would write it: `target 70 %, retention 1 h`. */
  readonly label: string;
  readonly config: Readonly<Record<string, unknown>>;
}

export interface SweepRow extends Setting {
  readonly result: SimulationResult;
  readonly wallS: number;
}

const minuteMs = 60_000;

const shares = [0.3, 0.5, 0.7, 0.9];
const percent = (share: number) => `target ${Math.round(share * 100)} %`;

/** Idle times after which the last replica goes; the rivals' main lever on rare models. */
const keepMinutes = [0, 1, 3, 5, 7, 10, 20, 60, 240, 1440];

function knativeSettings(): Setting[] {
  return keepMinutes.flatMap((minutes) =>
    [0.5, 0.7].map((slotShare) => ({
      policy: "knative-kpa",
      label: `${percent(slotShare)}, pod retention ${minutes} min`,
      config: { slotShare, podRetentionMs: minutes * minuteMs },
    }))
  ).concat(
    shares.slice(1).map((slotShare) => ({
      policy: "knative-kpa",
      label: `${percent(slotShare)}, min scale 1`,
      config: { slotShare, podRetentionMs: 0, replicasMin: 1 },
    })),
  );
}

function targetSettings(): Setting[] {
  return keepMinutes.slice(1).map((minutes) => ({
    policy: "target",
    label: `target 70 %, shrink delay ${minutes} min, min 0`,
    config: {
      slotShare: 0.7,
      replicasMin: 0,
      shrinkDelayMs: minutes * minuteMs,
    },
  }));
}

/** Rules that never go below one replica have only their target to choose. */
function shareSettings(policy: string): Setting[] {
  return shares.map((slotShare) => ({
    policy,
    label: `${percent(slotShare)}, min 1`,
    config: { slotShare },
  }));
}

export const manyModelSettings: readonly Setting[] = [
  ...knativeSettings(),
  ...targetSettings(),
  ...shareSettings("hpa"),
  ...shareSettings("aibrix-apa"),
  ...shareSettings("aibrix-kpa"),
  { policy: "scheduled", label: "hourly, from the first day", config: {} },
  { policy: "tail", label: "defaults", config: {} },
];

export const oneModelSettings: readonly Setting[] = [
  ...[0.4, 0.5, 0.6, 0.7, 0.8].map((slotShare) => ({
    policy: "knative-kpa",
    label: percent(slotShare),
    config: { slotShare },
  })),
  ...["target", "hpa", "aibrix-apa", "aibrix-kpa"].flatMap((policy) =>
    [0.5, 0.6, 0.7, 0.8].map((slotShare) => ({
      policy,
      label: percent(slotShare),
      config: { slotShare },
    }))
  ),
  { policy: "tail", label: "defaults", config: {} },
  ...[0.7, 0.8, 0.9].map((burstQuantile) => ({
    policy: "tail",
    label: `burst quantile ${burstQuantile}, shrink window 3 min`,
    config: { burstQuantile, shrinkWindowMs: 3 * minuteMs },
  })),
  {
    policy: "tail",
    label: "slot use 70 %, burst quantile 0.8, shrink window 3 min",
    config: { slotUse: 0.7, burstQuantile: 0.8, shrinkWindowMs: 3 * minuteMs },
  },
];

export function runSetting(
  trace: Trace,
  profile: Profile,
  setting: Setting,
  seed: string,
): SweepRow {
  const startedMs = performance.now();
  const configOf = setting.policy === "scheduled"
    ? scheduleFrom(trace, profile, seed)
    : undefined;
  const { result } = simulateTrace(trace, {
    profile,
    policy: setting.policy,
    config: setting.config,
    configOf,
    seed,
  });
  return { ...setting, result, wallS: (performance.now() - startedMs) / 1000 };
}

/** Rows that meet the share of requests in time, cheapest first. */
export function cheapestFirst(
  rows: readonly SweepRow[],
  sloShare: number,
): SweepRow[] {
  return rows.filter((row) => row.result.slo_attainment >= sloShare)
    .sort((a, b) => a.result.gpu_hours - b.result.gpu_hours);
}

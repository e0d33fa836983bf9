import { isBlind, isSaturated, type ModelSignals } from "../signals.ts";
import {
  clampReplicas,
  holdReplicas,
  type Policy,
  replicasCurrent,
  scaleTo,
  type ScalingBounds,
} from "./policy.ts";

/**
 * What is tracked. The unit is part of the type, because confusing the two is
 * the classic fault: a mean per replica must be multiplied by the replicas it
 * was taken over, a total must not.
 */
export type TargetMetric =
  | {
    readonly kind: "total";
    /** Requests at once, all replicas together. */
    readonly read: "concurrency" | "waiting";
    readonly targetPerReplica: number;
  }
  | {
    readonly kind: "per-replica";
    /** Mean share of slots in use on a ready replica, 0 to 1 and above when queued. */
    readonly read: "slotUse";
    readonly target: number;
  };

export interface TargetConfig extends ScalingBounds {
  readonly metric: TargetMetric;
  /** Largest growth in one decision, as a factor; default 2. */
  readonly growthMax: number;
  /** Shrinking follows once the wish stayed below for this long; default 300 s. */
  readonly shrinkDelayMs: number;
}

export interface TargetState {
  readonly shrinkSinceMs: number | undefined;
  /** Largest wish since then. */
  readonly shrinkTo: number;
}

/**
 * Target tracking: as many replicas as bring one metric to its target.
 *
 *   total:        wish = ceil(total / targetPerReplica)
 *   per-replica:  wish = ceil(ready * mean / target)
 *
 * Growth is followed at once, up to `growthMax` times the current count: who
 * waits is late already. Shrinking waits `shrinkDelayMs` and then goes to the
 * largest wish of that time, never while every slot is taken.
 *
 * Example: 3 ready, 45 requests, 10 per replica: wish 5. The same as a mean:
 * slots 16, 45 / 48 = 0.94 in use, target 0.625: ceil(3 * 0.94 / 0.625) = 5.
 */
export const target: Policy<TargetConfig, TargetState> = {
  summary: "Target tracking on a total or a per-replica metric",
  periodMs: 10_000,
  defaults: {
    replicasMin: 1,
    replicasMax: 100,
    metric: { kind: "total", read: "concurrency", targetPerReplica: 4 },
    growthMax: 2,
    shrinkDelayMs: 300_000,
  },
  initialState: () => ({ shrinkSinceMs: undefined, shrinkTo: 0 }),
  decide(signals, config, state, nowMs) {
    if (isBlind(signals, nowMs)) {
      return holdReplicas(signals, config, state, "no-data");
    }
    const current = replicasCurrent(signals);
    const { value, wish } = wishOf(signals, config.metric);
    const numbers = { value, wish, current };
    const busy = signals.held + signals.running + signals.waiting > 0 ? 1 : 0;
    const bounded = clampReplicas(Math.max(wish, busy), config);
    if (bounded >= current) {
      const ceiling = Math.ceil(Math.max(1, current) * config.growthMax);
      const replicas = clampReplicas(Math.min(bounded, ceiling), config);
      return scaleTo(replicas, {
        reason: replicas > current ? "grow" : "steady",
        numbers,
        state: { shrinkSinceMs: undefined, shrinkTo: 0 },
        settled: signals.concurrency === 0 && signals.arrivals === 0 &&
          replicas === current && replicas === config.replicasMin,
      });
    }
    const shrinkSinceMs = state.shrinkSinceMs ?? nowMs;
    const shrinkTo = Math.max(state.shrinkTo, bounded);
    const waits = nowMs - shrinkSinceMs < config.shrinkDelayMs ||
      isSaturated(signals);
    return scaleTo(waits ? clampReplicas(current, config) : shrinkTo, {
      reason: waits ? "shrink-delay" : "shrink",
      numbers: { ...numbers, shrinkTo },
      state: waits
        ? { shrinkSinceMs, shrinkTo }
        : { shrinkSinceMs: undefined, shrinkTo: 0 },
    });
  },
};

function wishOf(
  signals: ModelSignals,
  metric: TargetMetric,
): { value: number; wish: number } {
  if (metric.kind === "total") {
    const value = signals[metric.read];
    return { value, wish: Math.ceil(value / metric.targetPerReplica) };
  }
  const ready = Math.max(1, signals.replicasReady);
  const value = signals.concurrency / (ready * signals.slotsPerReplica);
  return { value, wish: Math.ceil((ready * value) / metric.target) };
}

import {
  addSample,
  emptyWindow,
  maxOf,
  minOf,
  type TimeWindow,
} from "../forecast/time_window.ts";
import { isBlind, type ModelSignals } from "../signals.ts";
import {
  clampReplicas,
  holdReplicas,
  type Policy,
  replicasCurrent,
  scaleTo,
  type ScalingBounds,
} from "./policy.ts";

export interface HpaConfig extends ScalingBounds {
  /** Requests at once per replica aimed at (`averageValue`). */
  readonly targetPerReplica: number;
  /** No change while the ratio is within 1 ± this; default 0.1. */
  readonly tolerance: number;
  /**
   * `pods`: each replica reports for itself, starting ones count as idle when
   * growing. `external`: one total, as a gateway or KEDA reports it.
   */
  readonly metric: "pods" | "external";
  /** The smallest wish of this long is followed upwards; default 0. */
  readonly scaleUpWindowMs: number;
  /** The largest wish of this long is followed downwards; default 300 s. */
  readonly scaleDownWindowMs: number;
  /** `behavior`: in `periodMs` at most the larger of both may be added. */
  readonly scaleUp: { pods: number; percent: number; periodMs: number };
  readonly scaleDown: { percent: number; periodMs: number };
}

export interface HpaState {
  readonly wishes: TimeWindow;
  /** Replica counts of the behaviour periods, oldest first. */
  readonly counts: TimeWindow;
}

/**
 * Kubernetes' HorizontalPodAutoscaler (`autoscaling/v2`) on requests at once.
 *
 *   wish = ceil(N * use / target) when use / target leaves [0.9, 1.1], else N,
 *
 * with `use` the mean per replica, so N * use is the total. Growing follows the
 * smallest wish of `scaleUpWindowMs`, shrinking the largest of
 * `scaleDownWindowMs` (300 s), and each period adds at most max(4 pods, 100 %).
 * Below one replica it never goes: it has nobody to hold requests.
 *
 * Example: 3 replicas with 30 requests in all, target 8: 10 / 8 = 1.25, so
 * ceil(30 / 8) = 4. At 26 the ratio is 1.08: no change. At 3, the wish is 1,
 * and it comes true 300 s after the last larger wish.
 */
export const hpa: Policy<HpaConfig, HpaState> = {
  summary: "Kubernetes HPA: ratio with tolerance, stabilization, behaviours",
  periodMs: 15_000,
  defaults: {
    replicasMin: 1,
    replicasMax: 100,
    targetPerReplica: 4,
    tolerance: 0.1,
    metric: "external",
    scaleUpWindowMs: 0,
    scaleDownWindowMs: 300_000,
    scaleUp: { pods: 4, percent: 100, periodMs: 15_000 },
    scaleDown: { percent: 100, periodMs: 15_000 },
  },
  initialState: () => ({ wishes: emptyWindow, counts: emptyWindow }),
  decide(signals, config, state, nowMs) {
    if (isBlind(signals, nowMs)) {
      return holdReplicas(signals, config, state, "no-data");
    }
    const replicas = replicasCurrent(signals);
    const { wish, ratio } = wishOf(signals, config, replicas);
    const spanMs = Math.max(config.scaleUpWindowMs, config.scaleDownWindowMs);
    const wishes = addSample(state.wishes, { value: wish, nowMs, spanMs });
    const stabilized = stabilize(wishes, config, { wish, replicas, nowMs });
    const counts = addSample(state.counts, {
      value: replicas,
      nowMs,
      spanMs: Math.max(config.scaleUp.periodMs, config.scaleDown.periodMs),
    });
    const wanted = clampReplicas(
      limitRate(stabilized, config, { counts, replicas }),
      config,
    );
    return scaleTo(Math.max(wanted, signals.held > 0 ? 1 : 0), {
      reason: wanted > replicas
        ? "grow"
        : wanted < replicas
        ? "shrink"
        : wish < replicas
        ? "stabilizing"
        : "steady",
      numbers: { total: signals.concurrency, ratio, wish, stabilized },
      state: { wishes, counts },
      settled: signals.concurrency === 0 && signals.arrivals === 0 &&
        wanted === replicas && replicas === config.replicasMin &&
        maxOf(wishes) <= replicas,
    });
  },
};

/** The replica calculator: ratio, tolerance and what unready replicas count for. */
function wishOf(
  signals: ModelSignals,
  config: HpaConfig,
  replicas: number,
): { wish: number; ratio: number } {
  const total = signals.concurrency;
  const counted = config.metric === "external"
    ? replicas
    : signals.replicasReady;
  if (counted === 0) {
    return { wish: Math.ceil(total / config.targetPerReplica), ratio: 0 };
  }
  const ratio = total / (counted * config.targetPerReplica);
  if (Math.abs(ratio - 1) <= config.tolerance) return { wish: replicas, ratio };
  if (config.metric === "pods" && ratio > 1 && signals.replicasStarting > 0) {
    const withIdle = total / (replicas * config.targetPerReplica);
    const stays = withIdle <= 1 + config.tolerance;
    return { wish: stays ? replicas : Math.ceil(withIdle * replicas), ratio };
  }
  return { wish: Math.ceil(total / config.targetPerReplica), ratio };
}

/** Up: nothing less than the smallest recent wish; down: nothing more than the largest. */
function stabilize(
  wishes: TimeWindow,
  config: HpaConfig,
  seen: { wish: number; replicas: number; nowMs: number },
): number {
  const within = (spanMs: number): TimeWindow => {
    const first = wishes.atMs.findIndex((atMs) => atMs > seen.nowMs - spanMs);
    return {
      atMs: first < 0 ? [] : wishes.atMs.slice(first),
      values: first < 0 ? [] : wishes.values.slice(first),
    };
  };
  const up = Math.min(seen.wish, minOf(within(config.scaleUpWindowMs)));
  const down = Math.max(seen.wish, maxOf(within(config.scaleDownWindowMs)));
  return Math.min(Math.max(seen.replicas, up), down);
}

/** `behavior`: how far one period may move, measured from where it began. */
function limitRate(
  wanted: number,
  config: HpaConfig,
  seen: { counts: TimeWindow; replicas: number },
): number {
  const lowest = Math.min(seen.replicas, minOf(seen.counts));
  const highest = Math.max(seen.replicas, maxOf(seen.counts));
  const ceiling = Math.max(
    lowest + config.scaleUp.pods,
    Math.ceil(lowest * (1 + config.scaleUp.percent / 100)),
  );
  const floor = Math.floor(highest * (1 - config.scaleDown.percent / 100));
  if (wanted > seen.replicas) {
    return Math.max(seen.replicas, Math.min(wanted, ceiling));
  }
  return Math.min(seen.replicas, Math.max(wanted, floor));
}

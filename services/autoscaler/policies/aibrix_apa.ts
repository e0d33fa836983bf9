import {
  addSample,
  emptyWindow,
  minOf,
  type TimeWindow,
} from "../forecast/time_window.ts";
import { isBlind, type ModelSignals } from "../signals.ts";
import {
  clampReplicas,
  type Decision,
  holdReplicas,
  type Policy,
  replicasCurrent,
  scaleTo,
  type ScalingBounds,
} from "./policy.ts";

export interface AibrixApaConfig extends ScalingBounds {
  /** Use of one replica aimed at, in requests at once. */
  readonly targetPerReplica: number;
  readonly upTolerance: number;
  readonly downTolerance: number;
  readonly scaleUpRateMax: number;
  readonly scaleDownRateMax: number;
  readonly scaleDownWindowMs: number;
}

export interface AibrixState {
  /** Recommendations of the scale-down window. */
  readonly wishes: TimeWindow;
}

/**
 * AIBrix's APA, as published, for comparison: do not run a service on it.
 *
 * With use the mean over pods of requests at once, and N pods:
 *
 *   use / target > 1 + 0.1:  min(ceil(N * use / target), ceil(2 * N))
 *   use / target < 1 - 0.1:  max(ceil(N * use / target), floor(N / 2))
 *   otherwise N.
 *
 * Known fault, kept: when the result is below N, the *smallest* recommendation
 * of the last 300 s is followed (Kubernetes and Knative take the largest), so
 * the window does not delay shrinking, it hastens it. Nothing scales from zero.
 *
 * Example: 4 pods at 9 requests with a target of 6: 9/6 = 1.5, so 6 pods. Then
 * 7 requests each on 6 pods: 7/6 is over 1.1: 7 pods. At 5 each: 5/6 < 0.9: the
 * recommendation is 6, but any 4 of the last five minutes wins, so 4.
 */
export const aibrixApa: Policy<AibrixApaConfig, AibrixState> = {
  summary: "AIBrix's APA as published, faults included (for comparison)",
  periodMs: 10_000,
  defaults: {
    replicasMin: 1,
    replicasMax: 100,
    targetPerReplica: 4,
    upTolerance: 0.1,
    downTolerance: 0.1,
    scaleUpRateMax: 2,
    scaleDownRateMax: 2,
    scaleDownWindowMs: 300_000,
  },
  initialState: () => ({ wishes: emptyWindow }),
  decide(signals, config, state, nowMs) {
    if (isBlind(signals, nowMs)) {
      return holdReplicas(signals, config, state, "no-data");
    }
    const pods = replicasCurrent(signals);
    const usePerPod = signals.concurrency / Math.max(1, signals.replicasReady);
    const ratio = usePerPod / config.targetPerReplica;
    const raw = Math.ceil(pods * ratio);
    let wish = pods;
    if (ratio > 1 + config.upTolerance) {
      wish = Math.min(raw, Math.ceil(config.scaleUpRateMax * pods));
    } else if (ratio < 1 - config.downTolerance) {
      wish = Math.max(raw, Math.floor(pods / config.scaleDownRateMax));
    }
    return followSmallest(signals, config, { wish, state, nowMs }, {
      usePerPod,
      ratio,
    });
  },
};

/** AIBrix's stabilization: shrinking follows the smallest wish of the window. */
export function followSmallest(
  signals: ModelSignals,
  config: ScalingBounds & { scaleDownWindowMs: number },
  step: { wish: number; state: AibrixState; nowMs: number },
  numbers: Record<string, number>,
): Decision<AibrixState> {
  const pods = replicasCurrent(signals);
  const wish = clampReplicas(step.wish, config);
  const wishes = addSample(step.state.wishes, {
    value: wish,
    nowMs: step.nowMs,
    spanMs: config.scaleDownWindowMs,
  });
  const replicas = wish < pods ? minOf(wishes) : wish;
  return scaleTo(clampReplicas(replicas, config), {
    reason: wish > pods ? "grow" : wish < pods ? "shrink" : "steady",
    numbers: { ...numbers, pods, wish },
    state: { wishes },
    settled: signals.concurrency === 0 && signals.arrivals === 0 &&
      pods === config.replicasMin && replicas === pods,
  });
}

import {
  addSample,
  emptyWindow,
  meanSince,
  type TimeWindow,
} from "../forecast/time_window.ts";
import { isBlind } from "../signals.ts";
import { type AibrixState, followSmallest } from "./aibrix_apa.ts";
import {
  type Decision,
  holdReplicas,
  type Policy,
  replicasCurrent,
  type ScalingBounds,
} from "./policy.ts";

export interface AibrixKpaConfig extends ScalingBounds {
  /** Use of one replica aimed at, in requests at once. */
  readonly targetPerReplica: number;
  readonly stableWindowMs: number;
  readonly panicWindowMs: number;
  readonly panicThreshold: number;
  readonly scaleUpRateMax: number;
  readonly scaleDownRateMax: number;
  readonly scaleDownWindowMs: number;
}

export interface AibrixKpaState extends AibrixState {
  /** Use per pod, one sample a decision. */
  readonly use: TimeWindow;
}

/**
 * AIBrix's KPA, as published, for comparison: do not run a service on it.
 *
 *   wish = ceil(use / target), kept within [floor(N / 2), max(1, ceil(2 * N))]
 *
 * over 180 s (stable) and 60 s (panic); while the panic wish is at least twice
 * N the larger one is taken. Its formula is Knative's, where `use` is the
 * *total* over all pods; here it is the *mean per pod* and nothing multiplies
 * by N. Known fault, kept: the more pods there are, the fewer it asks for. The
 * scale-down window is APA's, fault included.
 *
 * Example: 4 pods, each at 8 requests, target 4: ceil(8 / 4) = 2 pods. They are
 * at twice the target, and lose half of themselves.
 */
export const aibrixKpa: Policy<AibrixKpaConfig, AibrixKpaState> = {
  summary: "AIBrix's KPA as published, faults included (for comparison)",
  periodMs: 10_000,
  defaults: {
    replicasMin: 1,
    replicasMax: 100,
    targetPerReplica: 4,
    stableWindowMs: 180_000,
    panicWindowMs: 60_000,
    panicThreshold: 2,
    scaleUpRateMax: 2,
    scaleDownRateMax: 2,
    scaleDownWindowMs: 300_000,
  },
  initialState: () => ({ wishes: emptyWindow, use: emptyWindow }),
  decide(signals, config, state, nowMs): Decision<AibrixKpaState> {
    if (isBlind(signals, nowMs)) {
      return holdReplicas(signals, config, state, "no-data");
    }
    const pods = replicasCurrent(signals);
    const use = addSample(state.use, {
      value: signals.concurrency / Math.max(1, signals.replicasReady),
      nowMs,
      spanMs: config.stableWindowMs,
    });
    const stable = meanSince(use, nowMs, config.stableWindowMs);
    const panic = meanSince(use, nowMs, config.panicWindowMs);
    const limit = (wish: number) =>
      Math.min(
        Math.max(wish, Math.floor(pods / config.scaleDownRateMax)),
        Math.max(1, Math.ceil(config.scaleUpRateMax * pods)),
      );
    const panicWish = Math.ceil(panic / config.targetPerReplica);
    const panicking = panicWish / Math.max(1, pods) >= config.panicThreshold;
    const stableWish = limit(Math.ceil(stable / config.targetPerReplica));
    const wish = panicking
      ? Math.max(stableWish, limit(panicWish))
      : stableWish;
    const decision = followSmallest(signals, config, { wish, state, nowMs }, {
      stable,
      panic,
    });
    return {
      ...decision,
      reason: panicking ? "panic" : decision.reason,
      state: { ...decision.state, use },
      settled: decision.settled && stable === 0,
    };
  },
};

import {
  addSample,
  emptyWindow,
  maxOf,
  meanSince,
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

export interface KnativeConfig extends ScalingBounds {
  /** Requests at once one replica is said to take (`containerConcurrency`). */
  readonly concurrencyPerReplica: number;
  /** Share of it aimed at; default 0.7. */
  readonly targetUtilization: number;
  readonly stableWindowMs: number;
  readonly panicWindowMs: number;
  /** Panic begins when the panic wish is this many times the ready count. */
  readonly panicThreshold: number;
  readonly scaleUpRateMax: number;
  readonly scaleDownRateMax: number;
  /** Idle time behind the activator before the last replica goes. */
  readonly scaleToZeroGraceMs: number;
  /** `scale-to-zero-pod-retention-period`: kept on top of the grace. */
  readonly podRetentionMs: number;
  /** `scale-down-delay`: the largest wish of this long is followed. */
  readonly scaleDownDelayMs: number;
  /** Requests the activator should be able to pass on at once. */
  readonly targetBurstCapacity: number;
}

export interface KnativeState {
  readonly concurrency: TimeWindow;
  readonly wishes: TimeWindow;
  /** When the panic threshold was last exceeded; absent outside panic. */
  readonly panicAtMs: number | undefined;
  readonly panicReplicasMax: number;
  /** When the wish first became zero; absent while it is not. */
  readonly zeroSinceMs: number | undefined;
}

/**
 * Knative's pod autoscaler (KPA), as `autoscaler.go` and `scaler.go` compute it.
 *
 * Two averages of total concurrency C, over 60 s and over 6 s, become two wishes:
 *
 *   wish = ceil(C / (concurrencyPerReplica * targetUtilization)),
 *   kept within [floor(ready / scaleDownRateMax), ceil(ready * scaleUpRateMax)].
 *
 * When the 6 s wish, before those limits, is at least `panicThreshold` times the
 * ready count, panic begins: the larger wish is followed and nothing shrinks
 * until 60 s after the threshold was last exceeded. A wish of zero puts the
 * activator, which holds requests, in front; the last replica leaves after the
 * grace. A held request counts as concurrency, so it brings the first replica back.
 *
 * Example: 10 per replica at 70 % is a target of 7. With 2 ready, C60 = 14 and
 * C6 = 42 the wishes are 2 and 6; 6 / 2 = 3 is over the threshold of 2: panic,
 * 6 replicas. Twenty seconds later C6 = 7 wishes 1: still 6.
 *
 * The signal is one mean per decision (2 s) where Knative keeps 1 s buckets.
 */
export const knativeKpa: Policy<KnativeConfig, KnativeState> = {
  summary:
    "Knative's KPA: 60 s and 6 s concurrency windows, panic, scale to zero",
  periodMs: 2_000,
  defaults: {
    replicasMin: 0,
    replicasMax: 100,
    concurrencyPerReplica: 100,
    targetUtilization: 0.7,
    stableWindowMs: 60_000,
    panicWindowMs: 6_000,
    panicThreshold: 2,
    scaleUpRateMax: 1000,
    scaleDownRateMax: 2,
    scaleToZeroGraceMs: 30_000,
    podRetentionMs: 0,
    scaleDownDelayMs: 0,
    targetBurstCapacity: 211,
  },
  // Starting with several replicas and no history counts as panic, so that a
  // restarted autoscaler does not shrink before it has seen a window.
  initialState: (replicas, nowMs) => ({
    concurrency: emptyWindow,
    wishes: emptyWindow,
    panicAtMs: replicas > 1 ? nowMs : undefined,
    panicReplicasMax: replicas,
    zeroSinceMs: undefined,
  }),
  decide: decideKnative,
};

function decideKnative(
  signals: ModelSignals,
  config: KnativeConfig,
  state: KnativeState,
  nowMs: number,
): Decision<KnativeState> {
  if (isBlind(signals, nowMs)) {
    return holdReplicas(signals, config, state, "no-data");
  }
  const concurrency = addSample(state.concurrency, {
    // The activator reports what it holds at once, not only its mean.
    value: signals.held > 0
      ? Math.max(signals.concurrency, signals.held)
      : signals.concurrency,
    nowMs,
    spanMs: config.stableWindowMs,
  });
  const stable = meanSince(concurrency, nowMs, config.stableWindowMs);
  const panic = meanSince(concurrency, nowMs, config.panicWindowMs);
  const ready = Math.max(1, signals.replicasReady);
  const target = config.concurrencyPerReplica * config.targetUtilization;
  const limit = (wish: number) =>
    Math.min(
      Math.max(wish, Math.floor(ready / config.scaleDownRateMax)),
      Math.ceil(config.scaleUpRateMax * ready),
    );
  const stableWish = Math.ceil(stable / target);
  const panicWish = Math.ceil(panic / target);
  const panicking = nextPanic(state, {
    over: panicWish / ready >= config.panicThreshold,
    nowMs,
    windowMs: config.stableWindowMs,
  });
  let wish = limit(stableWish);
  let panicReplicasMax = 0;
  if (panicking !== undefined) {
    wish = Math.max(wish, limit(panicWish), state.panicReplicasMax);
    panicReplicasMax = wish;
  }
  let wishes = emptyWindow;
  if (config.scaleDownDelayMs > 0) {
    const spanMs = config.scaleDownDelayMs;
    wishes = addSample(state.wishes, { value: wish, nowMs, spanMs });
    wish = maxOf(wishes);
  }
  const { replicas, zeroSinceMs } = toZero(
    clampReplicas(wish, config),
    signals,
    config,
    state.zeroSinceMs,
    nowMs,
  );
  return scaleTo(replicas, {
    reason: panicking !== undefined
      ? "panic"
      : zeroSinceMs !== undefined && replicas > 0
      ? "zero-grace"
      : "stable",
    numbers: {
      stable,
      panic,
      target,
      ready: signals.replicasReady,
      stableWish,
      panicWish,
      excessBurstCapacity: excessBurstCapacity(signals, config, panic),
    },
    state: {
      concurrency,
      wishes,
      panicAtMs: panicking,
      panicReplicasMax,
      zeroSinceMs,
    },
    settled: stable === 0 && signals.arrivals === 0 &&
      panicking === undefined && replicas === replicasCurrent(signals) &&
      replicas === config.replicasMin,
  });
}

/** When panic was last confirmed; absent when calm. */
function nextPanic(
  state: KnativeState,
  seen: { over: boolean; nowMs: number; windowMs: number },
): number | undefined {
  if (seen.over) return seen.nowMs;
  if (state.panicAtMs === undefined) return undefined;
  return state.panicAtMs + seen.windowMs < seen.nowMs
    ? undefined
    : state.panicAtMs;
}

/** The last replica stays through grace and retention, and while anyone is held. */
function toZero(
  wish: number,
  signals: ModelSignals,
  config: KnativeConfig,
  zeroSinceMs: number | undefined,
  nowMs: number,
): { replicas: number; zeroSinceMs: number | undefined } {
  if (wish > 0) return { replicas: wish, zeroSinceMs: undefined };
  if (signals.held + signals.running + signals.waiting > 0) {
    return { replicas: clampReplicas(1, config), zeroSinceMs: undefined };
  }
  const sinceMs = zeroSinceMs ?? nowMs;
  const keepMs = config.scaleToZeroGraceMs + config.podRetentionMs;
  const leaving = nowMs - sinceMs >= keepMs;
  return {
    replicas: leaving ? 0 : Math.min(1, replicasCurrent(signals)),
    zeroSinceMs: sinceMs,
  };
}

/**
 * Capacity left after the current load and the burst one wants to absorb. Below
 * zero the activator stays in the path and buffers; -1 when burst is unlimited.
 */
function excessBurstCapacity(
  signals: ModelSignals,
  config: KnativeConfig,
  panicConcurrency: number,
): number {
  if (config.targetBurstCapacity === 0) return 0;
  if (config.targetBurstCapacity < 0) return -1;
  const total = signals.replicasReady * config.concurrencyPerReplica;
  return Math.floor(total - config.targetBurstCapacity - panicConcurrency);
}

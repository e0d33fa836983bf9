import { forecastPeak } from "../forecast/burst_forecast.ts";
import {
  emptyHistogram,
  type IdleHistogram,
  idleQuantileMs,
  type KeepWindow,
  keepWindow,
  recordIdle,
} from "../forecast/idle_histogram.ts";
import {
  gpuMsPerRequest,
  type ModelCost,
  wakeTtftMs,
} from "../forecast/latency_model.ts";
import {
  addSample,
  emptyWindow,
  maxOf,
  type TimeWindow,
} from "../forecast/time_window.ts";
import {
  inFlight,
  isBlind,
  isSaturated,
  type ModelSignals,
} from "../signals.ts";
import {
  clampReplicas,
  type Decision,
  holdReplicas,
  type Policy,
  replicasCurrent,
  type Residency,
  type ScalingBounds,
} from "./policy.ts";

export interface TailConfig extends ScalingBounds {
  readonly cost: ModelCost;
  readonly ttftTargetMs: number;
  /** Share of a model's rests that must not end in a cold start; default 0.99. */
  readonly sloShare: number;
  /** Share of the TTFT target a wake-up may use; the rest is for queues. Default 0.6. */
  readonly wakeBudget: number;
  /** GPU share from which a model gets replicas of its own, and below which it loses them. */
  readonly dedicatedEnter: number;
  readonly dedicatedLeave: number;
  /** Dedicated for at least this long. */
  readonly dwellMs: number;
  /** Share of a dedicated replica's slots planned to be in use at the peak. */
  readonly slotUse: number;
  /** Quantile of past rises provided for when a replica is started ahead. */
  readonly burstQuantile: number;
  /** Shrinking goes to the largest wish of this long. */
  readonly shrinkWindowMs: number;
  /** Largest growth in one decision, as a factor, and at least one. */
  readonly growthMax: number;
  /** Idle histograms with fewer entries are not believed. */
  readonly idleSamplesMin: number;
  /** Kept loaded this long until they are, and never longer than `keepMaxMs`. */
  readonly keepDefaultMs: number;
  readonly keepMaxMs: number;
  /** Kept in host memory for twice the 99 % idle time, and at least this long. */
  readonly sleepMs: number;
}

export interface TailState {
  readonly idle: IdleHistogram;
  readonly lastArrivalMs: number | undefined;
  /** Requests in the mesh, one sample per `sampleMs`. */
  readonly load: TimeWindow;
  readonly bucketSinceMs: number;
  readonly bucketSum: number;
  readonly bucketCount: number;
  /** Arrivals per second, averaged over about ten minutes and one minute. */
  readonly rateSlow: number;
  readonly rateFast: number;
  /** Requests in the mesh, averaged over about ten minutes. */
  readonly loadSlow: number;
  readonly decidedAtMs: number;
  readonly wishes: TimeWindow;
  readonly residency: Residency;
  /** When it last became or ceased to be dedicated. */
  readonly residencySinceMs: number;
}

const sampleMs = 10_000;
const historyMs = 1_200_000;
/** Variance over mean of the work requests bring; 1 were equal requests at random times. */
const dispersion = 2;

/**
 * The long tail: the cheapest state of a model whose first token still comes
 * in time.
 *
 * A model may be **dedicated** (replicas of its own), **shared** (loaded on a
 * worker next to others), **asleep** (weights in host memory) or **absent** (on
 * disk). They cost whole GPUs, a slice of one, host memory, nothing. Which ones
 * are *allowed* follows from time: waking from host memory or disk must take at
 * most `wakeBudget` of the TTFT target (measured rates, `latency_model.ts`).
 * Which one is *chosen* follows from load:
 *
 *   share = rate * gpuMsPerRequest(batch) / 1000          GPUs this model keeps busy
 *   share ≥ dedicatedEnter, or no shared workers   → dedicated
 *     replicas = ceil((level + rise) / (slots * slotUse)), rise a quantile of the
 *     rises seen within one start time (`burst_forecast.ts`)
 *   otherwise, in use or due by its keep window    → shared
 *   idle, disk is too slow, asked lately           → asleep
 *   otherwise                                      → absent
 *
 * keep is zero where sleeping is in time (idle weights then only fill memory
 * nobody asked for), else a window from the model's own idle times, which also
 * brings a model back before it is due (`idle_histogram.ts`). Shrinking goes to the
 * largest wish of `shrinkWindowMs`; entering and leaving `dedicated` have
 * different thresholds; growth is bounded by a factor.
 *
 * Example: 8B, 1,000 prompt tokens at 20,000/s, 200 output tokens at 4 ms: one
 * request every 100 s is a share of 0.01 * 0.86 = 0.9 %: shared while in use.
 * Waking takes 0.9 s from host, 2.4 s from disk, both under 0.6 * 10 s: asleep
 * is allowed at once, and so is absent. With 20 requests at once, a start
 * time of 120 s, past rises of 6 and 8 slots: ceil(26 / 8) = 4 replicas.
 */
export const tail: Policy<TailConfig, TailState> = {
  summary:
    "Per model the cheapest of dedicated, shared, asleep, absent that meets its TTFT target",
  periodMs: 5_000,
  defaults: {
    replicasMin: 0,
    replicasMax: 100,
    cost: {
      weightsBytes: 8.5e9,
      promptTokensMean: 1000,
      outputTokensMean: 200,
      prefillTokensPerS: 20_000,
      stepMs: 4,
      stepMsPerSequence: 0.05,
      slots: 64,
      startMs: 30_000,
      wakeMs: { host: 900, disk: 2_400, network: 8_000 },
    },
    ttftTargetMs: 10_000,
    sloShare: 0.99,
    wakeBudget: 0.6,
    dedicatedEnter: 0.6,
    dedicatedLeave: 0.4,
    dwellMs: 600_000,
    slotUse: 1,
    burstQuantile: 0.5,
    shrinkWindowMs: 120_000,
    growthMax: 2,
    idleSamplesMin: 8,
    keepDefaultMs: 600_000,
    keepMaxMs: 4 * 3_600_000,
    sleepMs: 3_600_000,
  },
  initialState: (replicas, nowMs) => ({
    idle: emptyHistogram,
    lastArrivalMs: replicas > 0 ? nowMs : undefined,
    load: emptyWindow,
    bucketSinceMs: nowMs,
    bucketSum: 0,
    bucketCount: 0,
    rateSlow: 0,
    rateFast: 0,
    loadSlow: 0,
    decidedAtMs: nowMs,
    // What runs at the start counts as a wish, so that a restart does not shrink.
    wishes: replicas > 0 ? { atMs: [nowMs], values: [replicas] } : emptyWindow,
    residency: replicas > 0 ? "dedicated" : "absent",
    residencySinceMs: nowMs,
  }),
  decide: decideTail,
};

function decideTail(
  signals: ModelSignals,
  config: TailConfig,
  before: TailState,
  nowMs: number,
): Decision<TailState> {
  if (isBlind(signals, nowMs)) {
    const held = holdReplicas(signals, config, before, "no-data");
    return { ...held, residency: heldResidency(before, held.replicas) };
  }
  const state = observe(signals, before, nowMs);
  const { cost } = config;
  // A rush counts at once, a lull only when the slow average has followed.
  const rate = state.rateFast > 2 * state.rateSlow
    ? state.rateFast
    : state.rateSlow;
  const batch = Math.max(1, Math.min(cost.slots, state.loadSlow));
  const gpuS = gpuMsPerRequest(cost, batch) / 1000;
  const share = rate * gpuS;
  // Work that arrives within one start time, as a compound Poisson process.
  const shareVariance = dispersion * rate * gpuS ** 2 / (cost.startMs / 1000);
  const idleMs = inFlight(signals) > 0
    ? 0
    : nowMs - (state.lastArrivalMs ?? -Infinity);
  const dwellMs = nowMs - before.residencySinceMs;
  const alone = !cost.wakeMs || share >= config.dedicatedEnter ||
    (before.residency === "dedicated" &&
      (share >= config.dedicatedLeave || dwellMs < config.dwellMs));
  return alone
    ? dedicate(signals, config, state, {
      nowMs,
      share,
      shareVariance,
      rate,
      idleMs,
    })
    : shareOrSleep(signals, config, state, {
      nowMs,
      share,
      shareVariance,
      rate,
      idleMs,
    });
}

interface Seen {
  readonly nowMs: number;
  readonly share: number;
  readonly shareVariance: number;
  readonly rate: number;
  readonly idleMs: number;
}

/** Replicas of its own: enough for the peak before another could be ready. */
function dedicate(
  signals: ModelSignals,
  config: TailConfig,
  state: TailState,
  seen: Seen,
): Decision<TailState> {
  const { cost } = config;
  const { nowMs } = seen;
  const forecast = forecastPeak(state.load, {
    nowMs,
    horizonMs: cost.startMs,
    levelMs: 3 * sampleMs,
    quantile: config.burstQuantile,
    samplesMin: 30,
  });
  const now = inFlight(signals);
  const peak = Math.max(forecast.peak, now);
  const keep = keepLoaded(config, state.idle);
  const kept = isKept(keep, seen.idleMs) ? 1 : 0;
  const wish = Math.max(kept, Math.ceil(peak / (cost.slots * config.slotUse)));
  const wishes = addSample(state.wishes, {
    value: wish,
    nowMs,
    spanMs: config.shrinkWindowMs,
  });
  const current = replicasCurrent(signals);
  const ceiling = Math.max(current + 1, Math.ceil(current * config.growthMax));
  let replicas = Math.min(maxOf(wishes), ceiling);
  let reason = replicas > current ? "grow" : "steady";
  if (replicas < current) {
    reason = "shrink";
    if (isSaturated(signals)) {
      reason = "saturated";
      replicas = current;
    }
  }
  replicas = clampReplicas(replicas, config);
  return {
    kind: "scale",
    replicas,
    residency: replicas > 0 ? "dedicated" : "absent",
    reason,
    numbers: {
      rate: seen.rate,
      share: seen.share,
      shareVariance: seen.shareVariance,
      level: forecast.level,
      rise: forecast.rise,
      peak,
      wish,
      idleMs: seen.idleMs,
      keepFromMs: keep.fromMs,
      keepUntilMs: keep.untilMs,
      startMs: cost.startMs,
    },
    state: {
      ...state,
      wishes,
      residency: "dedicated",
      residencySinceMs: state.residency === "dedicated"
        ? state.residencySinceMs
        : nowMs,
    },
    settled: replicas === 0 && current === 0 && signals.concurrency === 0 &&
      state.rateFast < 1e-6 && seen.idleMs >= keep.untilMs,
  };
}

/** On shared workers: loaded while in use or expected, else as far away as is in time. */
function shareOrSleep(
  signals: ModelSignals,
  config: TailConfig,
  state: TailState,
  seen: Seen,
): Decision<TailState> {
  const { cost } = config;
  const budgetMs = config.wakeBudget * config.ttftTargetMs;
  const hostMs = wakeTtftMs(cost, "host");
  const diskMs = wakeTtftMs(cost, "disk");
  const keep = hostMs <= budgetMs
    ? { fromMs: 0, untilMs: 0 }
    : keepLoaded(config, state.idle);
  const sleepMs = Math.max(
    config.sleepMs,
    2 * (idleQuantileMs(state.idle, config.sloShare) ?? 0),
  );
  const { residency, reason } = farthestInTime(signals, seen.idleMs, {
    keep,
    sleepMs,
    diskInTime: diskMs <= budgetMs,
  });
  const loaded = residency === "shared" || config.replicasMin > 0;
  const wanted = loaded ? 1 : 0;
  const current = replicasCurrent(signals);
  const replicas = isSaturated(signals) && current > wanted
    ? clampReplicas(current, config)
    : clampReplicas(wanted, config);
  return {
    kind: "scale",
    replicas,
    residency: loaded ? "shared" : residency,
    reason,
    numbers: {
      rate: seen.rate,
      share: seen.share,
      shareVariance: seen.shareVariance,
      idleMs: seen.idleMs,
      keepFromMs: keep.fromMs,
      keepUntilMs: keep.untilMs,
      sleepMs,
      hostMs,
      diskMs,
      budgetMs,
    },
    state: { ...state, residency, wishes: emptyWindow },
    settled: replicas === current && signals.concurrency === 0 &&
      residency === "absent" && state.rateFast < 1e-6 &&
      seen.idleMs >= keep.untilMs,
  };
}

function farthestInTime(
  signals: ModelSignals,
  idleMs: number,
  limits: { keep: KeepWindow; sleepMs: number; diskInTime: boolean },
): { residency: Residency; reason: string } {
  if (inFlight(signals) > 0) return { residency: "shared", reason: "in-use" };
  if (isKept(limits.keep, idleMs)) {
    return { residency: "shared", reason: "keep" };
  }
  if (!limits.diskInTime && idleMs < limits.sleepMs) {
    return { residency: "asleep", reason: "disk-too-slow" };
  }
  return { residency: "absent", reason: "idle" };
}

/** When to have an idle model loaded: by its own rests once enough are known. */
function keepLoaded(config: TailConfig, idle: IdleHistogram): KeepWindow {
  const known = idle.total >= config.idleSamplesMin
    ? keepWindow(idle, {
      leadMs: config.cost.startMs,
      keepMsMax: config.keepMaxMs,
      coverage: config.sloShare,
    })
    : undefined;
  return known ?? { fromMs: 0, untilMs: config.keepDefaultMs };
}

function isKept(keep: KeepWindow, idleMs: number): boolean {
  return idleMs >= keep.fromMs && idleMs < keep.untilMs;
}

/** Takes the new signals into the histories. */
function observe(
  signals: ModelSignals,
  state: TailState,
  nowMs: number,
): TailState {
  const elapsedMs = Math.max(1, nowMs - state.decidedAtMs);
  const rate = signals.arrivals / (elapsedMs / 1000);
  const slow = 2 ** (-elapsedMs / 300_000);
  const fast = 2 ** (-elapsedMs / 30_000);
  const gapMs = state.lastArrivalMs === undefined
    ? undefined
    : nowMs - state.lastArrivalMs;
  const arrived = signals.arrivals > 0 || signals.held > 0;
  const bucketDone = nowMs - state.bucketSinceMs >= sampleMs;
  const bucketSum = state.bucketSum + signals.concurrency;
  const bucketCount = state.bucketCount + 1;
  return {
    // Gaps shorter than a sample are the running of a busy model, not rest.
    idle: arrived && gapMs !== undefined && gapMs > sampleMs
      ? recordIdle(state.idle, gapMs)
      : state.idle,
    lastArrivalMs: arrived ? nowMs : state.lastArrivalMs,
    load: bucketDone
      ? addSample(state.load, {
        value: bucketSum / bucketCount,
        nowMs,
        spanMs: historyMs,
      })
      : state.load,
    bucketSinceMs: bucketDone ? nowMs : state.bucketSinceMs,
    bucketSum: bucketDone ? 0 : bucketSum,
    bucketCount: bucketDone ? 0 : bucketCount,
    rateSlow: rate + (state.rateSlow - rate) * slow,
    rateFast: rate + (state.rateFast - rate) * fast,
    loadSlow: signals.concurrency +
      (state.loadSlow - signals.concurrency) * slow,
    decidedAtMs: nowMs,
    wishes: state.wishes,
    residency: state.residency,
    residencySinceMs: state.residencySinceMs,
  };
}

function heldResidency(state: TailState, replicas: number): Residency {
  if (replicas === 0) {
    return state.residency === "asleep" ? "asleep" : "absent";
  }
  return state.residency === "dedicated" ? "dedicated" : "shared";
}

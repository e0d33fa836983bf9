import {
  addSample,
  emptyWindow,
  maxOf,
  type TimeWindow,
} from "../forecast/time_window.ts";
import type { Residency } from "../policies/policy.ts";

/** One model's part in a pool, from its policy's decision. */
export interface PoolDemand {
  readonly model: number;
  readonly residency: Residency;
  /** Workers of its own, when dedicated. */
  readonly replicas: number;
  /** GPUs its load keeps busy, and the variance of that over a worker's start time. */
  readonly share: number;
  readonly shareVariance: number;
  readonly weightsBytes: number;
}

export interface PoolConfig {
  /** A pool of one model: nobody else could use what its policy, after a delay of its own, gave back. */
  readonly dedicated: boolean;
  readonly workersMin: number;
  readonly workersMax: number;
  readonly weightsBytesPerWorker: number;
  readonly hostBytesPerWorker: number;
  /** Share of a shared worker's time planned to be busy; default 0.7. */
  readonly utilization: number;
  /** Standard deviations of load provided for; 2.33 covers 99 %. */
  readonly deviations: number;
  /** Shrinking goes to the largest wish of this long; default 10 min. */
  readonly shrinkWindowMs: number;
  /** Workers added in one plan at most, as a factor of those there are. */
  readonly growthMax: number;
}

export const poolDefaults = {
  dedicated: false,
  workersMin: 1,
  utilization: 0.7,
  deviations: 2.33,
  shrinkWindowMs: 600_000,
  growthMax: 2,
};

export interface PoolState {
  readonly wishes: TimeWindow;
}

export const emptyPool: PoolState = { wishes: emptyWindow };

export interface PoolSeen {
  /** Workers there are, starting ones included. */
  readonly workers: number;
  /** Weights of models whose requests wait for room, beyond what starting workers will take. */
  readonly unplacedBytes: number;
  /** Mean share of the last minute in which a shared worker had work. */
  readonly busyShare: number;
}

export interface PoolPlan {
  readonly workers: number;
  readonly reason:
    | "grow"
    | "shrink"
    | "steady"
    | "no-room"
    | "busy";
  readonly numbers: Readonly<Record<string, number>>;
  readonly state: PoolState;
}

/**
 * How many workers a pool needs for what its models need together.
 *
 *   compute = (sum of shares + deviations * sqrt(sum of variances)) / utilization
 *   memory  = bytes wanted loaded / bytes a worker takes
 *   host    = bytes wanted asleep or loaded / host bytes a worker brings
 *   workers = dedicated replicas + ceil(max(compute, memory, host))
 *
 * Deviations of independent models add in squares: a hundred rare models need
 * far less than a hundred times the room of one. This is where sharing saves.
 * When requests found no room, or every worker was busy, the present count was
 * too small whatever the sums say: room for those models, at least one more. Growth is immediate up to
 * `growthMax`; shrinking goes to the largest wish of `shrinkWindowMs`, unless
 * the pool is dedicated to one model, whose policy has waited already.
 *
 * Example: 100 models of share 0.01 and variance 0.02 each: 1 GPU of load,
 * sqrt(2) = 1.41 deviation: (1 + 2.33 * 1.41) / 0.7 = 6.1: 7 workers, not 100.
 */
export function planPool(
  demands: Iterable<PoolDemand>,
  seen: PoolSeen,
  config: PoolConfig,
  state: PoolState,
  nowMs: number,
): PoolPlan {
  const sum = addUp(demands);
  const deviation = Math.sqrt(sum.variance);
  const compute = (sum.share + config.deviations * deviation) /
    config.utilization;
  const memory = sum.loadedBytes / config.weightsBytesPerWorker;
  const host = sum.hostBytes / config.hostBytesPerWorker;
  const shared = Math.max(
    Math.ceil(Math.max(compute, memory, host) - 1e-9),
    sum.shared > 0 ? 1 : 0,
  );
  let wish = sum.dedicated + shared;
  let pressed: "no-room" | "busy" | undefined;
  if (seen.unplacedBytes > 0) pressed = "no-room";
  else if (seen.busyShare > 0.9) pressed = "busy";
  if (pressed) {
    const room = Math.ceil(seen.unplacedBytes / config.weightsBytesPerWorker);
    wish = Math.max(wish, seen.workers + Math.max(1, room));
  }
  wish = Math.max(wish, config.workersMin);
  const spanMs = config.dedicated ? 1 : config.shrinkWindowMs;
  const wishes = addSample(state.wishes, { value: wish, nowMs, spanMs });
  const ceiling = Math.max(
    seen.workers + 1,
    Math.ceil(seen.workers * config.growthMax),
    sum.dedicated,
  );
  const workers = Math.min(maxOf(wishes), ceiling, config.workersMax);
  return {
    workers,
    reason: workers > seen.workers
      ? pressed ?? "grow"
      : workers < seen.workers
      ? "shrink"
      : "steady",
    numbers: {
      share: sum.share,
      deviation,
      compute,
      memory,
      host,
      dedicated: sum.dedicated,
      wish,
      busyShare: seen.busyShare,
      unplacedBytes: seen.unplacedBytes,
    },
    state: { wishes },
  };
}

function addUp(demands: Iterable<PoolDemand>) {
  const sum = {
    shared: 0,
    dedicated: 0,
    share: 0,
    variance: 0,
    loadedBytes: 0,
    hostBytes: 0,
  };
  for (const demand of demands) {
    if (demand.residency === "dedicated") {
      sum.dedicated += demand.replicas;
      continue;
    }
    if (demand.residency !== "absent") sum.shared++;
    sum.share += demand.share;
    sum.variance += demand.shareVariance;
    if (demand.residency === "shared") sum.loadedBytes += demand.weightsBytes;
    if (demand.residency !== "absent") sum.hostBytes += demand.weightsBytes;
  }
  return sum;
}

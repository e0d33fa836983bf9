import type { WorkerPoolSpec } from "../crds/mod.ts";
import {
  emptyPool,
  planPool,
  poolDefaults,
  type PoolState,
} from "../placement/mod.ts";
import type { Residency } from "../policies/mod.ts";

/** What one model asks of the pool. */
export interface PoolWish {
  readonly model: string;
  /** Workers that should have it loaded. */
  readonly copies: number;
  readonly residency: Residency;
  /** Workers its load keeps busy, and the variance of that. */
  readonly share: number;
  readonly shareVariance: number;
  /** Memory it takes on a worker; 0 while unknown. */
  readonly bytes: number;
}

export interface PoolSeen {
  /** Pods wanted so far. */
  readonly current: number;
  /** What we know may be old: NATS is away, or was until a moment ago. */
  readonly blind: boolean;
  /** Pods that are ready and silent: nobody knows what they do. */
  readonly silent: number;
  /** Requests running, waiting or held for any model of the pool. */
  readonly inFlight: number;
  /** Models that found no room on the workers, beyond what starting ones will take. */
  readonly unplacedBytes: number;
  /** Share of the last minute in which workers had requests waiting. */
  readonly busyShare: number;
  /** Memory for models on one worker; Infinity while unknown. */
  readonly bytesPerWorker: number;
}

export interface PoolDecision {
  readonly wanted: number;
  /** `manual`, `no-data`, `grow`, `shrink`, `steady`, `in-flight`, … */
  readonly reason: string;
  readonly numbers: Readonly<Record<string, number>>;
  readonly state: PoolState;
}

/**
 * How many pods a pool should have.
 *
 * `planPool` adds up what the models need; around it stand the rules that hold
 * whatever the sums say: a number set by hand counts, nothing changes while we
 * are blind (except that bounds are kept), no worker goes while a silent one may
 * be doing its work, and the last one stays while any request is in flight.
 */
export function decidePool(
  spec: WorkerPoolSpec,
  wishes: readonly PoolWish[],
  { seen, state = emptyPool, nowMs }: {
    readonly seen: PoolSeen;
    readonly state?: PoolState;
    readonly nowMs: number;
  },
): PoolDecision {
  const { replicasMin, replicasMax } = spec.scaling;
  const bounded = (count: number) =>
    Math.min(replicasMax, Math.max(replicasMin, count));
  if (spec.replicas !== undefined) {
    return { wanted: spec.replicas, reason: "manual", numbers: {}, state };
  }
  if (seen.blind) {
    const wanted = bounded(seen.current);
    return { wanted, reason: "no-data", numbers: {}, state };
  }
  const copiesMax = Math.max(0, ...wishes.map((wish) => wish.copies));
  const plan = planPool(
    wishes.map((wish, model) => demandOf(wish, model, spec)),
    {
      workers: seen.current,
      unplacedBytes: seen.unplacedBytes,
      busyShare: seen.busyShare,
    },
    {
      ...poolDefaults,
      dedicated: spec.sharing === "dedicated",
      workersMin: Math.min(replicasMax, Math.max(replicasMin, copiesMax)),
      workersMax: replicasMax,
      weightsBytesPerWorker: seen.bytesPerWorker,
      hostBytesPerWorker: Infinity,
      utilization: spec.scaling.utilization,
      shrinkWindowMs: Math.max(1, spec.scaling.idleSeconds * 1_000),
    },
    state,
    nowMs,
  );
  const { wanted, reason } = guarded(bounded(plan.workers), plan.reason, seen);
  return {
    wanted,
    reason,
    numbers: { ...plan.numbers, copiesMax, inFlight: seen.inFlight },
    state: plan.state,
  };
}

function guarded(
  wanted: number,
  reason: string,
  seen: PoolSeen,
): { wanted: number; reason: string } {
  if (wanted >= seen.current) return { wanted, reason };
  if (seen.silent > 0) return { wanted: seen.current, reason: "silent-worker" };
  if (wanted === 0 && seen.inFlight > 0) {
    return { wanted: 1, reason: "in-flight" };
  }
  return { wanted, reason };
}

function demandOf(wish: PoolWish, model: number, spec: WorkerPoolSpec) {
  const own = spec.sharing === "dedicated";
  return {
    model,
    residency: own ? ownResidency(wish) : sharedResidency(wish),
    replicas: wish.copies,
    share: wish.share,
    shareVariance: wish.shareVariance,
    weightsBytes: wish.bytes,
  };
}

/** In a pool of its own a model is there or not. */
function ownResidency({ copies }: PoolWish): Residency {
  return copies > 0 ? "dedicated" : "absent";
}

/** Policies that know only whole replicas say "dedicated" for one that may share. */
function sharedResidency({ residency, copies }: PoolWish): Residency {
  return residency === "dedicated" && copies > 0 ? "shared" : residency;
}

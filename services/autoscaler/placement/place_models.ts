import {
  chooseWorker,
  type LoadRequest,
  type Placement,
  type PlacementConfig,
  type WakeMsOf,
} from "./choose_worker.ts";
import type { WorkerView } from "./worker_view.ts";

/** What one model should have on the pool's workers. */
export interface ModelDemand extends LoadRequest {
  /** Workers that should have it loaded, loading ones included. */
  readonly replicas: number;
  /** Requests waiting for it: these models are placed first. */
  readonly held: number;
}

export type PlacementAction =
  | {
    readonly kind: "load";
    readonly model: number;
    readonly dedicated: boolean;
    readonly placement: Placement;
  }
  /** The worker has the model already and becomes its own, or stops being so. */
  | {
    readonly kind: "dedicate";
    readonly model: number;
    readonly worker: number;
  }
  | { readonly kind: "share"; readonly model: number; readonly worker: number }
  /** One copy too many: the model leaves the worker when its requests have ended. */
  | {
    readonly kind: "release";
    readonly model: number;
    readonly worker: number;
  };

export interface PlacementPlan {
  readonly actions: readonly PlacementAction[];
  /** Models that found no room; the pool is too small for them. */
  readonly unplaced: readonly number[];
}

/**
 * The changes that bring the models onto the workers, fewest first.
 *
 * What is placed stays: only missing copies are loaded and surplus
 * copies are released, so an unchanged demand gives no action. Models with requests held go
 * first, then large before small, as large ones fit in fewer places. One call
 * uses a worker for at most one load, and the next call sees the result.
 *
 * Invariants: a worker is never given more weights than fit; a model with
 * requests on a worker is never put out; a model is never loaded twice on one worker.
 */
export function placeModels(
  demands: readonly ModelDemand[],
  workers: readonly WorkerView[],
  seen: { config: PlacementConfig; nowMs: number; wakeMsOf: WakeMsOf },
): PlacementPlan {
  const actions: PlacementAction[] = [];
  const unplaced: number[] = [];
  const used = new Set<number>();
  const ordered = demands.length < 2
    ? demands
    : demands.toSorted((a, b) =>
      Number(b.held > 0) - Number(a.held > 0) ||
      b.weightsBytes - a.weightsBytes || a.model - b.model
    );
  for (const demand of ordered) {
    const own = workers.filter((worker) =>
      !worker.draining && worker.residents.has(demand.model)
    );
    const free = () => workers.filter((worker) => !used.has(worker.id));
    let missing = demand.replicas - own.length;
    if (demand.dedicated) {
      missing = demand.replicas - dedicateOwn(demand, own, actions, used);
    } else releaseOwn(demand, own, actions);
    for (; missing > 0; missing--) {
      const placement = chooseWorker(demand, free(), seen);
      if (!placement) {
        unplaced.push(demand.model);
        break;
      }
      used.add(placement.worker);
      const { model, dedicated } = demand;
      actions.push({ kind: "load", model, dedicated, placement });
    }
  }
  return { actions, unplaced };
}

/** Makes workers that have the model its own, the least shared first; returns how many it has. */
function dedicateOwn(
  demand: ModelDemand,
  own: readonly WorkerView[],
  actions: PlacementAction[],
  used: Set<number>,
): number {
  const has = own.filter((worker) => worker.dedicatedTo === demand.model);
  const could = own
    .filter((worker) =>
      worker.dedicatedTo === undefined && !used.has(worker.id)
    )
    .toSorted((a, b) => a.residents.size - b.residents.size || a.id - b.id)
    .slice(0, Math.max(0, demand.replicas - has.length));
  for (const worker of could) {
    used.add(worker.id);
    actions.push({ kind: "dedicate", model: demand.model, worker: worker.id });
  }
  const surplus = has
    .toSorted((a, b) => a.sequences - b.sequences || b.id - a.id)
    .slice(0, Math.max(0, has.length - demand.replicas));
  for (const worker of surplus) {
    actions.push({ kind: "release", model: demand.model, worker: worker.id });
  }
  return has.length + could.length;
}

function releaseOwn(
  demand: ModelDemand,
  own: readonly WorkerView[],
  actions: PlacementAction[],
): void {
  for (const worker of own) {
    if (worker.dedicatedTo !== demand.model) continue;
    actions.push({ kind: "share", model: demand.model, worker: worker.id });
  }
}

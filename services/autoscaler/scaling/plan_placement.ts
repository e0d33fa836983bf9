import type { WorkerModel } from "../../../lib/bus/types.ts";
import {
  type ModelDemand,
  type NodeView,
  placementDefaults,
  placeModels,
  type WorkerView,
} from "../placement/mod.ts";
import type { Residency } from "../policies/mod.ts";

/** A worker as the pool's placement sees it. */
export interface PoolWorker {
  readonly workerId: string;
  readonly pod: string;
  readonly node: string;
  /** Its pod is ready and its record is there. */
  readonly ready: boolean;
  readonly draining: boolean;
  /** 0: it does not say. */
  readonly memoryBytesTotal: number;
  readonly memoryBytesFree: number;
  readonly models: readonly WorkerModel[];
  /** Models about which a call is under way, not yet in its record. */
  readonly pending: ReadonlySet<string>;
}

export interface PlacementDemand {
  readonly model: string;
  readonly copies: number;
  readonly residency: Residency;
  readonly held: number;
  /** 0 while unknown. */
  readonly bytes: number;
  readonly share: number;
  /** Nothing is tried before this, after a failure. */
  readonly notBeforeMs: number;
}

export type Action =
  | {
    readonly kind: "load" | "wake";
    readonly worker: string;
    readonly model: string;
  }
  | {
    readonly kind: "sleep" | "unload";
    readonly worker: string;
    readonly model: string;
    /** `evicted`, `surplus`, `idle`, `unknown-model`. */
    readonly why: string;
  };

export interface PlacementOutcome {
  readonly actions: readonly Action[];
  /** Models that found no room. */
  readonly unplaced: readonly string[];
}

/** A model that was loaded stays at least this long, so that two do not oust each other in turn. */
const dwellMs = 20_000;

/** What is remembered between two plans. */
export interface PlacementMemory {
  /** `worker model` and when it began to serve there, as far as we saw. */
  readonly sinceMs: ReadonlyMap<string, number>;
  /** `worker model` and when it last had a request. */
  readonly usedMs: ReadonlyMap<string, number>;
  /** Models whose files a node has had. */
  readonly onDisk: ReadonlyMap<string, ReadonlySet<string>>;
}

/**
 * The calls that bring the models onto the workers, fewest first.
 *
 * Copies that sleep are woken before anything is loaded; loading is
 * `placeModels`' choice (bins by memory, nearest weights, idle ones ousted
 * first); copies beyond the wish leave once nothing runs on them. A model
 * nobody knows (its Model was deleted) leaves as well.
 */
export function planPlacement(
  demands: readonly PlacementDemand[],
  workers: readonly PoolWorker[],
  { memory, nowMs, isProtected }: {
    readonly memory: PlacementMemory;
    readonly nowMs: number;
    /** Models that stay where they are though nobody asks for them here. */
    readonly isProtected: (model: string) => boolean;
  },
): PlacementOutcome {
  const usable = workers.filter((worker) => worker.ready && !worker.draining);
  const known = new Set(demands.map((demand) => demand.model));
  const actions: Action[] = [];
  const woken = new Set<string>();
  const missing: PlacementDemand[] = [];
  for (const demand of demands) {
    const copies = copiesOf(demand.model, usable);
    const active = copies.filter(({ state }) => isActive(state));
    let lack = demand.copies - active.length;
    if (nowMs < demand.notBeforeMs) lack = 0;
    const asleep = copies.filter(({ state }) => state === "asleep");
    for (const { worker } of asleep.slice(0, Math.max(0, lack))) {
      actions.push({
        kind: "wake",
        worker: worker.workerId,
        model: demand.model,
      });
      woken.add(`${worker.workerId} ${demand.model}`);
      lack--;
    }
    if (lack > 0) missing.push(demand);
    if (lack < 0) actions.push(...surplus(demand, copies, -lack));
    if (demand.residency === "absent" && demand.copies === 0) {
      actions.push(
        ...asleep.map(({ worker }) =>
          leave("unload", worker, demand.model, "idle")
        ),
      );
    }
  }
  for (const worker of usable) {
    for (const { model, state, running, waiting } of worker.models) {
      if (known.has(model) || worker.pending.has(model)) continue;
      if (isProtected(model)) continue;
      if (state === "unloading" || running + waiting > 0) continue;
      actions.push(leave("unload", worker, model, "unknown-model"));
    }
  }
  const loads = placeMissing(missing, demands, usable, {
    memory,
    nowMs,
    woken,
  });
  return {
    actions: withoutRepeats([...actions, ...loads.actions]),
    unplaced: loads.unplaced,
  };
}

/** A surplus copy may be ousted as well: it leaves once. */
function withoutRepeats(actions: readonly Action[]): Action[] {
  const seen = new Set<string>();
  return actions.filter(({ kind, worker, model }) => {
    const key = `${kind} ${worker} ${model}`;
    return !seen.has(key) && seen.add(key);
  });
}

interface Copy {
  readonly worker: PoolWorker;
  /** `pending` while a call is under way. */
  readonly state: WorkerModel["state"] | "pending";
  readonly sequences: number;
}

function copiesOf(model: string, workers: readonly PoolWorker[]): Copy[] {
  return workers.flatMap((worker): Copy[] => {
    if (worker.pending.has(model)) {
      return [{ worker, state: "pending", sequences: 0 }];
    }
    const own = worker.models.find((each) => each.model === model);
    if (!own || own.state === "failed") return [];
    const sequences = own.running + own.waiting;
    return [{ worker, state: own.state, sequences }];
  });
}

function isActive(state: Copy["state"]): boolean {
  return state !== "asleep" && state !== "unloading";
}

/** Idle copies beyond the wish, those on the fullest workers first. */
function surplus(
  { model, residency }: PlacementDemand,
  copies: readonly Copy[],
  count: number,
): Action[] {
  const kind = residency === "asleep" ? "sleep" : "unload";
  return copies
    .filter(({ state, sequences }) => state === "running" && sequences === 0)
    .toSorted((a, b) =>
      a.worker.memoryBytesFree - b.worker.memoryBytesFree ||
      (a.worker.workerId < b.worker.workerId ? -1 : 1)
    )
    .slice(0, count)
    .map(({ worker }) => leave(kind, worker, model, "surplus"));
}

function leave(
  kind: "sleep" | "unload",
  worker: PoolWorker,
  model: string,
  why: string,
): Action {
  return { kind, worker: worker.workerId, model, why };
}

/** Plans loads until nothing more finds room: one plan gives each worker one at most. */
function placeMissing(
  missing: readonly PlacementDemand[],
  demands: readonly PlacementDemand[],
  workers: readonly PoolWorker[],
  seen: Seen,
): PlacementOutcome {
  const actions: Action[] = [];
  const unplaced: string[] = [];
  let state = workers;
  // Only requests that wait oust a model that is wanted itself; else two that
  // do not fit together would oust each other for ever.
  for (const isHeld of [true, false]) {
    let open = missing.filter(({ held }) => held > 0 === isHeld);
    while (open.length > 0) {
      const outcome = placeOnce(open, demands, state, { ...seen, isHeld });
      actions.push(...outcome.actions);
      open = open.filter(({ model }) => outcome.unplaced.includes(model));
      if (outcome.actions.length === 0) break;
      state = state.map((worker) =>
        afterwards(worker, outcome.actions, demands)
      );
    }
    unplaced.push(...open.map(({ model }) => model));
  }
  return { actions, unplaced };
}

interface Seen {
  readonly memory: PlacementMemory;
  readonly nowMs: number;
  readonly woken: ReadonlySet<string>;
}

/** The worker as it will be once these calls have been answered. */
function afterwards(
  worker: PoolWorker,
  actions: readonly Action[],
  demands: readonly PlacementDemand[],
): PoolWorker {
  const own = actions.filter((action) => action.worker === worker.workerId);
  if (own.length === 0) return worker;
  const leaving = new Set(
    own.filter(({ kind }) => kind === "unload").map(({ model }) => model),
  );
  const coming = own.filter(({ kind }) => kind === "load").map((action) =>
    action.model
  );
  const freed = worker.models
    .filter(({ model }) => leaving.has(model))
    .reduce((sum, { weightBytes, kvBytes }) => sum + weightBytes + kvBytes, 0);
  const taken = coming.reduce((sum, model) => sum + bytesOf(model, demands), 0);
  return {
    ...worker,
    models: worker.models.filter(({ model }) => !leaving.has(model)),
    memoryBytesFree: worker.memoryBytesFree + freed - taken,
    pending: new Set([...worker.pending, ...coming]),
  };
}

function placeOnce(
  missing: readonly PlacementDemand[],
  demands: readonly PlacementDemand[],
  workers: readonly PoolWorker[],
  seen: Seen & { readonly isHeld: boolean },
): PlacementOutcome {
  const names = new Names();
  const wantedOf = new Map(
    demands.map((demand) => [demand.model, demand.copies > 0]),
  );
  const views = workers.map((worker, id) =>
    viewOf(worker, id, { names, wantedOf, ...seen })
  );
  const plan = placeModels(
    missing.map((demand) => demandOf(demand, names.id(demand.model), views)),
    views,
    {
      config: placementDefaults,
      nowMs: seen.nowMs,
      wakeMsOf: (model) => wakeMs(bytesOf(names.name(model), demands)).host,
    },
  );
  const actions: Action[] = [];
  for (const action of plan.actions) {
    if (action.kind !== "load") continue;
    const worker = workers[action.placement.worker];
    const model = names.name(action.model);
    for (const evicted of action.placement.evict) {
      actions.push(leave("unload", worker, names.name(evicted), "evicted"));
    }
    actions.push({ kind: "load", worker: worker.workerId, model });
  }
  return { actions, unplaced: plan.unplaced.map((id) => names.name(id)) };
}

function demandOf(
  demand: PlacementDemand,
  model: number,
  views: readonly WorkerView[],
): ModelDemand {
  const own = views.filter((view) => view.residents.has(model)).length;
  const active = views.filter((view) => {
    const resident = view.residents.get(model);
    return resident && (resident.loading || resident.wanted);
  }).length;
  return {
    model,
    weightsBytes: demand.bytes,
    wakeMs: wakeMs(demand.bytes),
    share: demand.share,
    dedicated: false,
    // `placeModels` counts every copy there is; those that do not serve do not count for us.
    replicas: demand.copies + own - active,
    held: demand.held,
  };
}

function viewOf(
  worker: PoolWorker,
  id: number,
  { names, wantedOf, memory, nowMs, woken, isHeld }: {
    readonly names: Names;
    readonly wantedOf: ReadonlyMap<string, boolean>;
    readonly memory: PlacementMemory;
    readonly nowMs: number;
    readonly woken: ReadonlySet<string>;
    readonly isHeld: boolean;
  },
): WorkerView {
  const residents = worker.models
    .filter(({ state }) => state !== "failed" && state !== "unloading")
    .map((own) => {
      const key = `${worker.workerId} ${own.model}`;
      const sinceMs = memory.sinceMs.get(key) ?? nowMs;
      const settling = own.state !== "asleep" && nowMs - sinceMs < dwellMs;
      const wanted = own.state !== "asleep" &&
        (wantedOf.get(own.model) ?? false);
      return {
        model: names.id(own.model),
        weightsBytes: own.weightBytes + own.kvBytes,
        loading: own.state === "loading" || own.state === "waking" ||
          settling || woken.has(key) || worker.pending.has(own.model) ||
          (wanted && !isHeld),
        sequences: own.running + own.waiting,
        lastUsedMs: memory.usedMs.get(key) ?? sinceMs,
        wanted,
      };
    });
  for (const model of worker.pending) {
    const there = residents.some((each) => each.model === names.id(model));
    if (there) continue;
    residents.push({
      model: names.id(model),
      weightsBytes: 0,
      loading: true,
      sequences: 0,
      lastUsedMs: nowMs,
      wanted: true,
    });
  }
  const says = worker.memoryBytesTotal > 0;
  return {
    id,
    node: nodeOf(worker, names, memory),
    ready: true,
    draining: false,
    dedicatedTo: undefined,
    weightsBytesMax: says ? worker.memoryBytesTotal : Infinity,
    weightsBytes: says ? worker.memoryBytesTotal - worker.memoryBytesFree : 0,
    residents: new Map(residents.map((resident) => [resident.model, resident])),
    sequences: residents.reduce((sum, { sequences }) => sum + sequences, 0),
    // A worker loads one model after another; each stands for some seconds.
    loadingUntilMs: nowMs +
      2_000 *
        residents.filter(({ loading, sequences }) => loading && sequences === 0)
          .length,
  };
}

function nodeOf(
  { node, models }: PoolWorker,
  names: Names,
  { onDisk }: PlacementMemory,
): NodeView {
  return {
    id: 0,
    hostModels: {
      has: (model) => models.some((own) => own.model === names.name(model)),
    },
    diskModels: {
      has: (model) => onDisk.get(node)?.has(names.name(model)) ?? false,
    },
  };
}

/** Loading times that compare places; nobody is promised them. */
function wakeMs(bytes: number) {
  return {
    host: 50 + bytes / 4e6,
    disk: 100 + bytes / 1e6,
    network: 500 + bytes / 1e5,
  };
}

function bytesOf(model: string, demands: readonly PlacementDemand[]): number {
  return demands.find((demand) => demand.model === model)?.bytes ?? 0;
}

/** `placeModels` knows models by number. */
class Names {
  readonly #ids = new Map<string, number>();
  readonly #names: string[] = [];

  id(name: string): number {
    let id = this.#ids.get(name);
    if (id === undefined) {
      id = this.#names.push(name) - 1;
      this.#ids.set(name, id);
    }
    return id;
  }

  name(id: number): string {
    return this.#names[id];
  }
}

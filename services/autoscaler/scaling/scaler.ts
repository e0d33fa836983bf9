import type { WorkerRecord } from "../../../lib/bus/types.ts";
import type { ModelSpec, WorkerPoolSpec } from "../crds/mod.ts";
import { parseQuantity } from "../kube/mod.ts";
import type { MeshView } from "../mesh/mesh_view.ts";
import { emptyPool, type PoolState } from "../placement/mod.ts";
import type { BoundPolicy, Decision } from "../policies/mod.ts";
import { decidePool, type PoolDecision, type PoolWish } from "./decide_pool.ts";
import {
  ConcurrencyMean,
  type ModelNow,
  modelNow,
  signalsOf,
  slotsDefault,
  tallyWorkers,
  type WorkerTally,
} from "./model_signals.ts";
import { policyOf } from "./model_policy.ts";
import {
  type Action,
  type PlacementDemand,
  planPlacement,
  type PoolWorker,
} from "./plan_placement.ts";
import { PlacementHistory } from "./placement_history.ts";

/** A pod of a pool, as the API server shows it. */
export interface PodView {
  readonly name: string;
  readonly node: string;
  readonly ready: boolean;
  readonly deleting: boolean;
  /** For how long it has been ready, by our clock. */
  readonly readySinceMs: number | undefined;
}

export interface ScalerOptions {
  readonly mesh: MeshView;
  readonly nowMs: () => number;
  readonly podsOf: (pool: string) => readonly PodView[];
  /** A Model that names the pool, though we were not told of it (yet): its copies stay. */
  readonly isProtected: (model: string, pool: string) => boolean;
  /** Calls under way, by worker id: their models. */
  readonly pendingOf: (workerId: string) => ReadonlySet<string>;
  readonly onPool: (change: PoolChange) => void;
  readonly onModel: (change: ModelChange) => void;
  /** What should be done on the workers now. */
  readonly onActions: (pool: string, actions: readonly Action[]) => void;
}

export interface PoolChange {
  readonly pool: string;
  readonly from: number;
  readonly decision: PoolDecision;
  /** The model whose held requests led to it. */
  readonly wakeOf: string | undefined;
}

export interface ModelChange {
  readonly model: string;
  readonly policy: string;
  readonly from: { readonly copies: number; readonly residency: string };
  readonly decision: Decision<unknown>;
}

/** What is known of one model, for its status. */
export interface ModelView {
  readonly model: string;
  readonly copies: number;
  readonly decision: Decision<unknown> | undefined;
  readonly now: ModelNow;
  readonly workers: readonly WorkerRecord[];
  readonly unplaced: boolean;
  readonly failure: ModelFailure | undefined;
  readonly weightBytes: number;
  readonly lastWake: Wake | undefined;
}

export interface ModelFailure {
  readonly workerId: string;
  readonly message: string;
  readonly attempts: number;
  readonly notBeforeMs: number;
}

export interface Wake {
  /** Wall clock. */
  readonly atMs: number;
  readonly sinceMs: number;
  /** Absent until a worker serves. */
  readonly tookMs: number | undefined;
}

interface ModelEntry {
  spec: ModelSpec;
  policy: BoundPolicy;
  state: unknown;
  decision: Decision<unknown> | undefined;
  decidedAtMs: number;
  readonly mean: ConcurrencyMean;
  bytes: number;
  weightBytes: number;
  unplaced: boolean;
  failure: ModelFailure | undefined;
  wake: Wake | undefined;
}

interface PoolEntry {
  spec: WorkerPoolSpec;
  wanted: number;
  reason: string;
  state: PoolState | undefined;
  busyShare: number;
  lookedAtMs: number;
}

/** A ready pod that has not been heard of for this long is silent. */
const silentMs = 20_000;

/**
 * The deciding half of the controller, kept apart from Kubernetes and NATS: it
 * is told of Models, pools and pods, looks at the mesh, and says what it wants.
 *
 * All that it remembers can be lost: a new leader starts from the pods there
 * are, decides nothing while blind, and shrinks only after a whole idle time of its own.
 */
export class Scaler {
  readonly #options: ScalerOptions;
  readonly #models = new Map<string, ModelEntry>();
  readonly #pools = new Map<string, PoolEntry>();
  readonly #history = new PlacementHistory();

  constructor(options: ScalerOptions) {
    this.#options = options;
  }

  /** Takes a valid Model, new or changed. */
  setModel(
    name: string,
    spec: ModelSpec,
    known: { weightBytes: number },
  ): void {
    const parsed = policyOf(spec, { weightsBytes: known.weightBytes });
    if (parsed.kind === "invalid") return;
    const { policy } = parsed;
    const entry = this.#models.get(name);
    const nowMs = this.#options.nowMs();
    if (entry) {
      const isSame = JSON.stringify(entry.spec) === JSON.stringify(spec);
      if (isSame) return;
      const copies = entry.decision?.replicas ?? 0;
      const keepsState = entry.policy.name === policy.name;
      entry.spec = spec;
      entry.policy = policy;
      if (!keepsState) entry.state = policy.initialState(copies, nowMs);
      entry.decidedAtMs = -Infinity;
      // What was settled under the old spec need not be under the new one.
      if (entry.decision) {
        entry.decision = { ...entry.decision, settled: false };
      }
      entry.failure = undefined;
      entry.bytes = Math.max(entry.bytes, sizeOf(spec));
      return;
    }
    const tally = tallyWorkers(this.#options.mesh.workers());
    const copies = tally.get(name)?.ready ?? 0;
    this.#models.set(name, {
      spec,
      policy,
      state: policy.initialState(copies, nowMs),
      decision: undefined,
      decidedAtMs: -Infinity,
      mean: new ConcurrencyMean(),
      bytes: known.weightBytes || sizeOf(spec),
      weightBytes: known.weightBytes,
      unplaced: false,
      failure: undefined,
      wake: undefined,
    });
  }

  removeModel(name: string): void {
    this.#models.delete(name);
    this.#options.mesh.forget(name);
  }

  /** Takes a valid pool; `current` is the number of pods it had when first seen. */
  setPool(name: string, spec: WorkerPoolSpec, current: number): void {
    const entry = this.#pools.get(name);
    if (entry) {
      const isSame = JSON.stringify(entry.spec) === JSON.stringify(spec);
      entry.spec = spec;
      if (!isSame) this.#stepPool(name, this.#look());
      return;
    }
    this.#pools.set(name, {
      spec,
      wanted: current,
      reason: "steady",
      // As if this many had been wanted now: a new leader shrinks after a whole window.
      state: seeded(current, this.#options.nowMs()),
      busyShare: 0,
      lookedAtMs: this.#options.nowMs(),
    });
    this.#stepPool(name, this.#look());
  }

  removePool(name: string): void {
    this.#pools.delete(name);
  }

  poolWanted(name: string): { wanted: number; reason: string } | undefined {
    return this.#pools.get(name);
  }

  viewOf(name: string): ModelView | undefined {
    const entry = this.#models.get(name);
    if (!entry) return undefined;
    const { mesh, nowMs } = this.#options;
    const workers = mesh.workers().filter((worker) =>
      worker.models.some((own) => own.model === name)
    );
    const now = modelNow(name, tallyWorkers(workers), {
      traffic: mesh.traffic(name),
      nowMs: nowMs(),
    });
    return {
      model: name,
      copies: entry.decision?.replicas ?? 0,
      decision: entry.decision,
      now,
      workers,
      unplaced: entry.unplaced,
      failure: entry.failure,
      weightBytes: entry.weightBytes,
      lastWake: entry.wake,
    };
  }

  /** Looks at everything; call it once a second. */
  tick(): void {
    const look = this.#look();
    if (!look.blind) {
      for (const [name, entry] of this.#models) {
        const now = this.#nowOf(name, look);
        entry.mean.look(now);
        if (this.#isDue(name, entry, now, look)) {
          this.#decide(name, entry, now, look);
        }
      }
    }
    for (const name of this.#pools.keys()) this.#stepPool(name, look);
  }

  /** Requests are held for a model: decides about it at once. */
  wake(name: string): void {
    const entry = this.#models.get(name);
    const look = this.#look();
    if (!entry || look.blind) return;
    const now = this.#nowOf(name, look);
    if (now.ready === 0 && (!entry.wake || entry.wake.tookMs !== undefined)) {
      const sinceMs = look.nowMs;
      entry.wake = { atMs: Date.now(), sinceMs, tookMs: undefined };
    }
    // Wanted already: the wish stands, and whoever loads is not hurried by asking again.
    if ((entry.decision?.replicas ?? 0) === 0) {
      this.#decide(name, entry, now, look);
    }
    for (const pool of poolsOf(entry.spec)) this.#stepPool(pool, look, name);
  }

  /** A worker came, went or changed: what waits for it may be done now. */
  workerChanged(record: WorkerRecord): void {
    const look = this.#look();
    for (const { model, state, weightBytes, kvBytes } of record.models) {
      const entry = this.#models.get(model);
      if (!entry) continue;
      if (weightBytes > 0) {
        entry.weightBytes = weightBytes;
        entry.bytes = weightBytes + kvBytes;
      }
      const { wake } = entry;
      if (state === "running" && wake && wake.tookMs === undefined) {
        entry.wake = { ...wake, tookMs: look.nowMs - wake.sinceMs };
      }
    }
    if (look.blind) return;
    const pool = this.#poolOf(record);
    if (pool) this.#stepPool(pool, look);
  }

  /** A call failed; it is tried again after `waitMs`. */
  failed(model: string, failure: ModelFailure): void {
    const entry = this.#models.get(model);
    if (entry) entry.failure = failure;
  }

  /** A worker has no room: next time a larger place is looked for. */
  needsMore(model: string, bytes: number): void {
    const entry = this.#models.get(model);
    if (entry) entry.bytes = Math.max(entry.bytes, bytes);
  }

  succeeded(model: string): void {
    const entry = this.#models.get(model);
    if (entry) entry.failure = undefined;
  }

  failureOf(model: string): ModelFailure | undefined {
    return this.#models.get(model)?.failure;
  }

  #look(): Look {
    const { mesh, nowMs } = this.#options;
    const workers = mesh.workers();
    const at = nowMs();
    this.#history.look(workers, at);
    return {
      nowMs: at,
      blind: mesh.isBlind(),
      workers,
      tally: tallyWorkers(workers),
      byPool: this.#modelsByPool(),
    };
  }

  #modelsByPool(): Map<string, Map<string, ModelEntry>> {
    const byPool = new Map<string, Map<string, ModelEntry>>();
    for (const [name, entry] of this.#models) {
      for (const pool of poolsOf(entry.spec)) {
        const models = byPool.get(pool) ?? new Map<string, ModelEntry>();
        byPool.set(pool, models.set(name, entry));
      }
    }
    return byPool;
  }

  #nowOf(name: string, look: Look): ModelNow {
    const traffic = this.#options.mesh.traffic(name);
    return modelNow(name, look.tally, { traffic, nowMs: look.nowMs });
  }

  #isDue(name: string, entry: ModelEntry, now: ModelNow, look: Look): boolean {
    const dueMs = entry.decidedAtMs + entry.policy.periodMs;
    if (now.held > 0 && (entry.decision?.replicas ?? 0) === 0) return true;
    if (look.nowMs < dueMs) return false;
    const arrivals = this.#options.mesh.traffic(name)?.arrivals ?? 0;
    const quiet = now.running + now.waiting + now.held + arrivals === 0;
    return !(entry.decision?.settled && quiet);
  }

  #decide(name: string, entry: ModelEntry, now: ModelNow, look: Look): void {
    const pool = this.#pools.get(entry.spec.pool);
    const before = entry.decision;
    const signals = signalsOf(now, {
      arrivals: this.#options.mesh.traffic(name)?.takeArrivals() ?? 0,
      concurrency: entry.mean.take(now),
      wanted: before?.replicas ?? this.#wantedAtFirst(now, pool),
      slots: pool?.spec.runtime.runningMax ?? slotsDefault,
      observedAtMs: look.nowMs,
    });
    const decision = entry.policy.decide(signals, entry.state, look.nowMs);
    entry.state = decision.state;
    entry.decision = decision;
    entry.decidedAtMs = look.nowMs;
    const from = {
      copies: before?.replicas ?? now.ready,
      residency: before?.residency ?? "absent",
    };
    const isNew = from.copies !== decision.replicas ||
      from.residency !== decision.residency;
    if (!isNew) return;
    const policy = entry.policy.name;
    this.#options.onModel({ model: name, policy, from, decision });
  }

  /** A pool of its own may have a pod on its way that was ordered before our time. */
  #wantedAtFirst(now: ModelNow, pool: PoolEntry | undefined): number {
    const own = pool?.spec.sharing === "dedicated" ? pool.wanted : 0;
    return Math.max(now.ready, own);
  }

  #stepPool(name: string, look: Look, wakeOf?: string): void {
    const entry = this.#pools.get(name);
    if (!entry) return;
    const pods = this.#options.podsOf(name);
    const workers = this.#workersOf(pods, look);
    this.#measureBusy(entry, workers, look);
    if (!look.blind) this.#place(name, workers, look);
    const wishes = this.#wishesOf(name, look);
    const decision = decidePool(entry.spec, wishes.map(({ wish }) => wish), {
      seen: {
        current: entry.wanted,
        blind: look.blind,
        silent: silentCount(pods, workers, look),
        inFlight: wishes.reduce((sum, { model }) => {
          const { running, waiting, held } = this.#nowOf(model, look);
          return sum + running + waiting + held;
        }, 0),
        unplacedBytes: unplacedBytes(entry, wishes, workers),
        busyShare: entry.busyShare,
        bytesPerWorker: bytesPerWorker(entry.spec, workers),
      },
      state: entry.state,
      nowMs: look.nowMs,
    });
    const from = entry.wanted;
    entry.state = decision.state;
    entry.wanted = decision.wanted;
    if (from !== decision.wanted || decision.reason === "manual") {
      entry.reason = decision.reason;
    }
    if (from !== decision.wanted) {
      this.#options.onPool({ pool: name, from, decision, wakeOf });
    }
  }

  #place(name: string, workers: readonly PoolWorker[], look: Look): void {
    const demands = this.#wishesOf(name, look).map(({ model, entry, wish }) =>
      ({
        model,
        copies: wish.copies,
        residency: wish.residency,
        held: this.#nowOf(model, look).held,
        bytes: wish.bytes,
        share: wish.share,
        notBeforeMs: entry.failure?.notBeforeMs ?? -Infinity,
      }) satisfies PlacementDemand
    );
    const isDedicated = this.#pools.get(name)?.spec.sharing === "dedicated";
    const copies = workers.filter(isUsable).length;
    const outcome = planPlacement(
      isDedicated ? demands.map((demand) => ({ ...demand, copies })) : demands,
      workers,
      {
        memory: this.#history,
        nowMs: look.nowMs,
        isProtected: (model) => this.#options.isProtected(model, name),
      },
    );
    for (const { model, entry } of this.#wishesOf(name, look)) {
      entry.unplaced = outcome.unplaced.includes(model);
    }
    if (outcome.actions.length > 0) {
      this.#options.onActions(name, outcome.actions);
    }
  }

  /** What the models that name the pool want of it. */
  #wishesOf(pool: string, look: Look) {
    const spec = this.#pools.get(pool)?.spec;
    const found: { model: string; entry: ModelEntry; wish: PoolWish }[] = [];
    for (const [model, entry] of look.byPool.get(pool) ?? []) {
      const isDecode = entry.spec.pool === pool;
      const replicas = entry.decision?.replicas ?? 0;
      // Two decode workers keep one prefill worker busy.
      const copies = isDecode ? replicas : Math.ceil(replicas / 2);
      const max = spec?.scaling.replicasMax ?? 0;
      found.push({
        model,
        entry,
        wish: {
          model,
          copies: Math.min(copies, spec?.replicas ?? max),
          residency: entry.decision?.residency ?? "absent",
          ...shareOf(entry, spec),
          bytes: entry.bytes,
        },
      });
    }
    return found;
  }

  #workersOf(pods: readonly PodView[], look: Look): PoolWorker[] {
    const byPod = new Map(pods.map((pod) => [pod.name, pod]));
    const workers: PoolWorker[] = [];
    for (const record of look.workers) {
      const pod = byPod.get(record.podName ?? record.workerId);
      if (!pod) continue;
      for (const { model, state } of record.models) {
        if (state === "running") this.#history.hadFile(pod.node, model);
      }
      workers.push({
        workerId: record.workerId,
        pod: pod.name,
        node: pod.node,
        ready: pod.ready && !pod.deleting,
        draining: record.draining || pod.deleting,
        memoryBytesTotal: record.memoryBytesTotal,
        memoryBytesFree: record.memoryBytesFree,
        models: record.models,
        pending: this.#options.pendingOf(record.workerId),
      });
    }
    return workers;
  }

  #poolOf(record: WorkerRecord): string | undefined {
    const podName = record.podName ?? record.workerId;
    for (const name of this.#pools.keys()) {
      if (this.#options.podsOf(name).some((pod) => pod.name === podName)) {
        return name;
      }
    }
    return undefined;
  }

  #measureBusy(
    entry: PoolEntry,
    workers: readonly PoolWorker[],
    { nowMs }: Look,
  ): void {
    const elapsedMs = nowMs - entry.lookedAtMs;
    if (elapsedMs <= 0 || workers.length === 0) return;
    entry.lookedAtMs = nowMs;
    const busy =
      workers.filter(({ models }) => models.some(({ waiting }) => waiting > 0))
        .length / workers.length;
    // Half-life of a minute: a burst of seconds is no reason for a pod.
    const mix = 1 - 2 ** (-elapsedMs / 60_000);
    entry.busyShare += (busy - entry.busyShare) * mix;
  }
}

/** Weights without room, beyond what pods on their way will take. */
function unplacedBytes(
  { wanted, spec }: PoolEntry,
  wishes: readonly { readonly entry: ModelEntry }[],
  workers: readonly PoolWorker[],
): number {
  // Without any worker nothing was tried: the plan itself brings the first.
  const homeless = wishes.filter(({ entry }) => entry.unplaced);
  if (homeless.length === 0 || !workers.some(isUsable)) return 0;
  const starting = Math.max(0, wanted - workers.filter(isUsable).length);
  const each = bytesPerWorker(spec, workers);
  // One worker on its way with no known limit takes them all.
  if (starting > 0 && each === Infinity) return 0;
  const bytes = homeless.reduce(
    (sum, { entry }) => sum + Math.max(1, entry.bytes),
    0,
  );
  return Math.max(0, bytes - (starting > 0 ? starting * each : 0));
}

function isUsable({ ready, draining }: PoolWorker): boolean {
  return ready && !draining;
}

function seeded(wanted: number, nowMs: number): PoolState {
  return wanted > 0
    ? { wishes: { atMs: [nowMs], values: [wanted] } }
    : emptyPool;
}

interface Look {
  readonly nowMs: number;
  readonly byPool: ReadonlyMap<string, ReadonlyMap<string, ModelEntry>>;
  readonly blind: boolean;
  readonly workers: readonly WorkerRecord[];
  readonly tally: WorkerTally;
}

function poolsOf({ pool, prefillPool }: ModelSpec): string[] {
  return prefillPool ? [pool, prefillPool] : [pool];
}

/** Policies that plan shares say so; the others' load is measured against its target. */
function shareOf(
  { decision, spec }: ModelEntry,
  pool: WorkerPoolSpec | undefined,
): { share: number; shareVariance: number } {
  const numbers = decision?.numbers ?? {};
  if (numbers.share !== undefined) {
    return { share: numbers.share, shareVariance: numbers.shareVariance ?? 0 };
  }
  const load = numbers.value ?? numbers.total ?? numbers.stable ?? 0;
  const utilization = pool?.scaling.utilization ?? 1;
  return {
    share: utilization * load / spec.scaling.targetPerReplica,
    shareVariance: 0,
  };
}

function silentCount(
  pods: readonly PodView[],
  workers: readonly PoolWorker[],
  { nowMs }: Look,
): number {
  const heard = new Set(workers.map(({ pod }) => pod));
  return pods.filter((pod) =>
    pod.ready && !pod.deleting && !heard.has(pod.name) &&
    nowMs - (pod.readySinceMs ?? nowMs) > silentMs
  ).length;
}

function bytesPerWorker(
  { runtime }: WorkerPoolSpec,
  workers: readonly PoolWorker[],
): number {
  const told = Math.max(0, ...workers.map((worker) => worker.memoryBytesTotal));
  if (told > 0) return told;
  const set = runtime.modelMemory === undefined
    ? undefined
    : parseQuantity(runtime.modelMemory);
  return set ?? Infinity;
}

function sizeOf({ size }: ModelSpec): number {
  return size === undefined ? 0 : parseQuantity(size) ?? 0;
}

/**
 * Scaling with a shared pool: the policy chooses a state per model, `planPool`
 * the number of workers, `placeModels` what goes where; the same functions the
 * controller calls.
 */
import {
  emptyPool,
  type ModelDemand,
  placementDefaults,
  placeModels,
  planPool,
  poolDefaults,
  type PoolDemand,
} from "../../services/autoscaler/placement/mod.ts";
import type { BoundPolicy } from "../../services/autoscaler/policies/mod.ts";
import type { ClusterNode } from "./cluster.ts";
import type { Scaler } from "./dedicated_scaler.ts";
import type { GpuWorker } from "./gpu_worker.ts";
import { loadMs } from "./profile.ts";
import type { SimModel, World } from "./world.ts";

export function createPooledScaler(
  world: World,
  policyOf: (model: SimModel) => BoundPolicy,
  poolOverrides: Partial<typeof poolDefaults>,
): Scaler {
  const { profile } = world;
  const policies = world.models.map(policyOf);
  const wakeMs = world.models.map(({ class: { weightsBytes } }) => ({
    host: loadMs(profile, weightsBytes, "host"),
    disk: loadMs(profile, weightsBytes, "disk"),
    network: loadMs(profile, weightsBytes, "network"),
  }));
  const placing = {
    config: { ...placementDefaults, sequencesMax: profile.sequencesPerGpu },
    wakeMsOf: (model: number) => wakeMs[model].host,
  };
  const poolConfig = {
    ...poolDefaults,
    dedicated: !profile.sharing,
    workersMin: profile.sharing ? poolDefaults.workersMin : 0,
    workersMax: profile.gpusMax,
    weightsBytesPerWorker: profile.weightsBytesPerGpu,
    hostBytesPerWorker: Math.max(1, profile.hostBytesPerGpu),
    ...poolOverrides,
  };
  let pool = emptyPool;
  let busySeenMs = 0;
  let busyShare = 0;
  let prefetchedMs = -Infinity;
  const unplaced = new Set<number>();

  function decide(model: SimModel): void {
    const wanted = model.decision?.replicas ?? profile.startReplicas;
    const decision = policies[model.id].decide(
      world.signals(model, wanted),
      model.policyState,
      world.nowMs,
    );
    model.policyState = decision.state;
    model.decision = decision;
    for (const worker of model.serving) {
      const resident = worker.residents.get(model.id);
      if (resident) resident.wanted = decision.replicas > 0;
    }
  }

  function demandOf(model: SimModel): ModelDemand {
    const { decision } = model;
    const queued = model.queue.length > 0;
    return {
      model: model.id,
      weightsBytes: model.class.weightsBytes,
      wakeMs: wakeMs[model.id],
      share: decision?.numbers.share ?? 0,
      dedicated: decision?.residency === "dedicated",
      replicas: Math.max(decision?.replicas ?? 0, queued ? 1 : 0),
      held: queued ? model.queue.length : 0,
    };
  }

  function place(models: readonly SimModel[]): void {
    const plan = placeModels(
      models.map(demandOf),
      [...world.workers.values()],
      { ...placing, nowMs: world.nowMs },
    );
    for (const action of plan.actions) {
      const model = world.models[action.model];
      if (action.kind === "load") {
        const worker = world.workers.get(action.placement.worker)!;
        unplaced.delete(action.model);
        const { source, evict } = action.placement;
        world.load(worker, model, source, evict);
        if (action.dedicated) dedicate(worker, model);
      } else if (action.kind === "dedicate") {
        dedicate(world.workers.get(action.worker)!, model);
      } else {
        const worker = world.workers.get(action.worker)!;
        worker.dedicatedTo = undefined;
        worker.advance(world.nowMs);
        worker.busyMs = 0;
        if (action.kind === "release") world.unload(worker, model.id);
      }
    }
    for (const id of plan.unplaced) unplaced.add(id);
    // A plan gives each worker one load at most: whoever is left may ask again.
    const loads = plan.actions.some(({ kind }) => kind === "load");
    if (loads && plan.unplaced.length > 0) {
      place(plan.unplaced.map((id) => world.models[id]));
    }
  }

  function dedicate(worker: GpuWorker, model: SimModel): void {
    worker.dedicatedTo = model.id;
    for (const other of [...worker.residents.keys()]) {
      if (other !== model.id) world.unload(worker, other);
    }
  }

  function resize(): void {
    const demands = world.models.map((model): PoolDemand => ({
      model: model.id,
      residency: model.decision?.residency ?? "absent",
      replicas: model.decision?.replicas ?? 0,
      share: model.decision?.numbers.share ?? 0,
      shareVariance: model.decision?.numbers.shareVariance ?? 0,
      weightsBytes: model.class.weightsBytes,
    }));
    const live = [...world.workers.values()].filter((worker) =>
      !worker.draining
    );
    const plan = planPool(
      demands,
      { workers: live.length, unplacedBytes: unplacedBeyond(live), busyShare },
      poolConfig,
      pool,
      world.nowMs,
    );
    pool = plan.state;
    unplaced.clear();
    for (let n = live.length; n < plan.workers; n++) {
      if (!world.startWorker(undefined)) break;
    }
    if (plan.workers < live.length) shrink(live, live.length - plan.workers);
    world.measures.scaled(-1, live.length, plan.workers);
  }

  /** Weights no worker on its way will take; dedicated ones are counted as replicas. */
  function unplacedBeyond(live: readonly GpuWorker[]): number {
    let bytes = 0;
    for (const id of unplaced) {
      const model = world.models[id];
      const counted = model.decision?.residency === "dedicated";
      if (!counted) bytes += model.class.weightsBytes;
    }
    const starting = live.filter((worker) => !worker.ready).length;
    return Math.max(0, bytes - starting * profile.weightsBytesPerGpu);
  }

  /** Gives up starting workers, then those whose models are wanted least. */
  function shrink(live: GpuWorker[], count: number): void {
    const price = (worker: GpuWorker) => {
      let sum = worker.sequences * 100;
      for (const resident of worker.residents.values()) {
        if (resident.wanted) sum += 1000 + wakeMs[resident.model].host;
      }
      return sum;
    };
    const order = live
      .filter((worker) => worker.dedicatedTo === undefined || isSpare(worker))
      .sort((a, b) =>
        Number(a.ready) - Number(b.ready) || price(a) - price(b) || b.id - a.id
      );
    for (const worker of order.slice(0, count)) world.drain(worker);
  }

  function isSpare(worker: GpuWorker): boolean {
    const model = world.models[worker.dedicatedTo!];
    return model.decision?.residency !== "dedicated" ||
      model.serving.size > model.decision.replicas;
  }

  function measureBusy(): void {
    let busyMs = 0;
    let shared = 0;
    for (const worker of world.workers.values()) {
      if (!worker.ready || worker.dedicatedTo !== undefined) continue;
      worker.advance(world.nowMs);
      busyMs += worker.busyMs;
      worker.busyMs = 0;
      shared++;
    }
    const elapsedMs = world.nowMs - busySeenMs;
    busySeenMs = world.nowMs;
    if (shared === 0 || elapsedMs <= 0) return;
    // Half-life of a minute: a burst of seconds is no reason for a GPU.
    const mix = 1 - 2 ** (-elapsedMs / 60_000);
    busyShare += (busyMs / (shared * elapsedMs) - busyShare) * mix;
  }

  /** Brings models wanted asleep into the host memory of a node in use. */
  function prefetchAsleep(): void {
    prefetchedMs = world.nowMs;
    const nodes = world.nodes.filter((node) => node.gpusHeld > 0);
    for (const model of world.models) {
      if (model.decision?.residency !== "asleep") continue;
      if (nodes.some((node) => node.hostModels.has(model.id))) continue;
      const node = nodes.find((candidate: ClusterNode) =>
        candidate.hasHostRoomFor(model.class.weightsBytes)
      );
      if (node) world.prefetch(node, model);
    }
  }

  // Room appeared somewhere: whoever waits for a place may have it now.
  world.onChange = () => {
    const waiting = [...unplaced].map((id) => world.models[id])
      .filter((model) => model.queue.length > 0);
    if (waiting.length > 0) place(waiting);
  };

  return {
    periodMs: policies[0].periodMs,
    begin() {
      if (profile.startLoaded) world.startWorker(undefined, true, world.models);
      for (const model of world.models) {
        model.policyState = policies[model.id].initialState(
          profile.startReplicas,
          0,
        );
        for (let n = 0; n < profile.startReplicas; n++) {
          world.startWorker(model, true);
        }
      }
    },
    tick() {
      const todo: SimModel[] = [];
      for (const model of world.models) {
        world.expire(model);
        const queued = model.queue.length > 0;
        const idle = model.decision?.settled && model.arrivals === 0 &&
          model.running === 0 && !queued;
        if (idle) continue;
        const before = model.decision;
        decide(model);
        const { residency, replicas } = model.decision!;
        const changed = before?.residency !== residency ||
          before.replicas !== replicas;
        const missing = replicas > model.serving.size;
        if (changed || missing || residency === "dedicated") todo.push(model);
        else if (queued && model.serving.size === 0) todo.push(model);
      }
      measureBusy();
      if (todo.length > 0) place(todo);
      resize();
      if (profile.sharing && world.nowMs - prefetchedMs >= 60_000) {
        prefetchAsleep();
      }
    },
    wake(model) {
      decide(model);
      place([model]);
    },
  };
}

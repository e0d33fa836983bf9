/**
 * Scaling as Kubernetes does it: each model has a deployment of its own, the
 * policy says how many pods it should have. Pods that still start are given up
 * first, then the least busy ones drain.
 */
import type { BoundPolicy } from "../../services/autoscaler/policies/mod.ts";
import type { GpuWorker } from "./gpu_worker.ts";
import type { SimModel, World } from "./world.ts";

/** What decides for all models; called every period and when a model wakes. */
export interface Scaler {
  readonly periodMs: number;
  begin(): void;
  tick(): void;
  /** Requests are held and nothing serves the model. */
  wake(model: SimModel): void;
}

export function createDedicatedScaler(
  world: World,
  policyOf: (model: SimModel) => BoundPolicy,
): Scaler {
  const policies = world.models.map(policyOf);
  const pods = world.models.map(() => new Set<GpuWorker>());
  // Crashed pods come back by themselves, as a deployment's do.
  world.onChange = (worker) => {
    const own = worker.dedicatedTo === undefined
      ? undefined
      : pods[worker.dedicatedTo];
    if (!own || !worker.gone || !own.delete(worker)) return;
    startPods(world.models[worker.dedicatedTo!]);
  };

  function startPods(model: SimModel): void {
    const wanted = model.decision?.replicas ?? world.profile.startReplicas;
    const before = new Set(world.workers.keys());
    for (let n = pods[model.id].size; n < wanted; n++) {
      if (!world.startWorker(model, model.decision === undefined)) break;
    }
    for (const worker of world.workers.values()) {
      if (!before.has(worker.id)) pods[model.id].add(worker);
    }
  }

  function stopPods(model: SimModel, wanted: number): void {
    const own = [...pods[model.id]].sort((a, b) =>
      Number(a.ready) - Number(b.ready) || a.sequences - b.sequences ||
      b.id - a.id
    );
    for (const worker of own.slice(0, Math.max(0, own.length - wanted))) {
      pods[model.id].delete(worker);
      world.drain(worker);
    }
  }

  function decide(model: SimModel): void {
    const own = pods[model.id];
    const before = own.size;
    const policy = policies[model.id];
    const decision = policy.decide(
      world.signals(model, before),
      model.policyState,
      world.nowMs,
    );
    model.policyState = decision.state;
    model.decision = decision;
    const { replicas } = decision;
    if (replicas > before) startPods(model);
    else if (replicas < before) stopPods(model, replicas);
    world.measures.scaled(model.id, before, replicas);
  }

  return {
    periodMs: policies[0].periodMs,
    begin() {
      world.models.forEach((model, i) => {
        model.policyState = policies[i].initialState(
          world.profile.startReplicas,
          0,
        );
        startPods(model);
      });
    },
    tick() {
      for (const model of world.models) {
        world.expire(model);
        const idle = model.decision?.settled && model.arrivals === 0 &&
          model.running === 0 && model.queue.length === 0 &&
          pods[model.id].size === model.decision.replicas;
        if (!idle) decide(model);
      }
    },
    wake: decide,
  };
}

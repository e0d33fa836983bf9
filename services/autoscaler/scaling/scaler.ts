import type { WorkerRecord } from "../../../lib/bus/types.ts";
import type { ModelSpec, WorkerPoolSpec } from "../crds/mod.ts";
import type { MeshView } from "../mesh/mesh_view.ts";
import type { PoolDecision } from "./decide_pool.ts";
import { type Look, lookAt } from "./look.ts";
import { policyOf } from "./model_policy.ts";
import { type ModelNow, slotsDefault, tallyWorkers } from "./model_signals.ts";
import { type ModelView, viewOf } from "./model_view.ts";
import { PlacementHistory } from "./placement_history.ts";
import type { Action } from "./plan_placement.ts";
import type { PodView } from "./pool_workers.ts";
import { PoolMembers } from "./pool_members.ts";
import {
  type ModelChange,
  type ModelFailure,
  ScaledModel,
} from "./scaled_model.ts";
import { ScaledPool } from "./scaled_pool.ts";
import { Stirring } from "./stirring.ts";

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
  /**
   * Everything is looked at this often, to heal what went unnoticed; 60,000 unless
   * set. 0: no pool ever rests.
   */
  readonly lookAtAllMs?: number;
}

export interface PoolChange {
  readonly pool: string;
  readonly from: number;
  readonly decision: PoolDecision;
  /** The model whose held requests led to it. */
  readonly wakeOf: string | undefined;
}

/**
 * The deciding half of the controller, kept apart from Kubernetes and NATS: it
 * is told of Models, pools and pods, looks at the mesh, and says what it wants.
 *
 * All that it remembers can be lost: a new leader starts from the pods there
 * are, decides nothing while blind, and shrinks only after a whole idle time of its own.
 *
 * Most models of a long tail are at rest. A model nobody asks for and a pool
 * whose next step would say what the last one said are left out of the looks
 * until something is told of them: whoever takes news in stirs whom it concerns.
 */
export class Scaler {
  readonly #options: ScalerOptions;
  readonly #models = new Map<string, ScaledModel>();
  readonly #pools = new Map<string, ScaledPool>();
  readonly #members = new PoolMembers();
  readonly #history = new PlacementHistory();
  readonly #stirring: Stirring;
  #lookedAtAllMs = -Infinity;
  #wasBlind = true;

  constructor(options: ScalerOptions) {
    this.#options = options;
    this.#stirring = new Stirring({
      nowMs: options.nowMs,
      poolsOf: (model) => this.#poolsOf(model),
    });
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
    const nowMs = this.#options.nowMs();
    const model = this.#models.get(name);
    if (!model) {
      const tally = tallyWorkers(this.#options.mesh.workers());
      const copies = tally.get(name)?.ready ?? 0;
      const { weightBytes } = known;
      const options = { name, spec, policy, copies, weightBytes, nowMs };
      return this.#addModel(new ScaledModel(options));
    }
    if (JSON.stringify(model.spec) === JSON.stringify(spec)) return;
    this.#stirring.stirPoolsOf(model);
    this.#members.delete(model);
    model.respec(spec, policy, nowMs);
    this.#addModel(model);
  }

  removeModel(name: string): void {
    const model = this.#models.get(name);
    this.#options.mesh.forget(name);
    if (!model) return;
    this.#stirring.stirPoolsOf(model);
    this.#models.delete(name);
    this.#members.delete(model);
    this.#stirring.models.delete(model);
  }

  /** Takes a valid pool; `current` is the number of pods it had when first seen. */
  setPool(name: string, spec: WorkerPoolSpec, current: number): void {
    const nowMs = this.#options.nowMs();
    const known = this.#pools.get(name);
    const isSame = JSON.stringify(known?.spec) === JSON.stringify(spec);
    if (known) known.spec = spec;
    if (isSame) return;
    const pool = known ?? new ScaledPool(name, spec, { current, nowMs });
    this.#pools.set(name, pool);
    this.#stepPool(pool, this.#look());
  }

  removePool(name: string): void {
    const pool = this.#pools.get(name);
    if (!pool) return;
    this.#pools.delete(name);
    this.#stirring.pools.delete(pool);
  }

  poolWanted(name: string): { wanted: number; reason: string } | undefined {
    return this.#pools.get(name);
  }

  viewOf(name: string): ModelView | undefined {
    const { mesh, nowMs } = this.#options;
    const model = this.#models.get(name);
    return model && viewOf(model, mesh, nowMs());
  }

  /** Looks at everything that does not rest; call it once a second. */
  tick(): void {
    this.#stirByTime();
    for (const name of this.#options.mesh.takeStirred()) this.#stirNamed(name);
    const { models, pools } = this.#stirring;
    if (models.size + pools.size === 0) return;
    const look = this.#look();
    if (!look.blind) {
      for (const model of models) this.#lookAtModel(model, look);
    }
    for (const pool of pools) this.#stepPool(pool, look);
  }

  /** Requests are held for a model: decides about it at once. */
  wake(name: string): void {
    const model = this.#models.get(name);
    if (!model) return;
    this.#stirring.stir(model);
    const look = this.#look();
    if (look.blind) return;
    const now = look.nowOf(name);
    if (now.ready === 0) model.startWake(look.nowMs);
    // Wanted already: the wish stands, and whoever loads is not hurried by asking again.
    if (model.copies === 0) this.#decide(model, now, look);
    for (const pool of this.#poolsOf(model)) this.#stepPool(pool, look, name);
  }

  /** A worker came or changed: what waits for it may be done now. */
  workerChanged(record: WorkerRecord): void {
    const look = this.#look();
    for (const { model: name, state, weightBytes, kvBytes } of record.models) {
      const model = this.#models.get(name);
      if (!model) continue;
      if (weightBytes > 0) {
        model.weightBytes = weightBytes;
        model.bytes = weightBytes + kvBytes;
      }
      if (state === "running") model.endWake(look.nowMs);
      this.#stirring.stir(model);
    }
    const pool = this.#poolOfPod(record.podName ?? record.workerId);
    if (!pool) return;
    this.#stirring.stirPool(pool);
    if (!look.blind) this.#stepPool(pool, look);
  }

  /** Pods of the pool came, went or changed, or the mesh lost one of them. */
  podsChanged(pool: string): void {
    const known = this.#pools.get(pool);
    if (known) this.#stirring.stirPool(known);
  }

  /** A call failed; it is tried again after `failure.notBeforeMs`. */
  failed(name: string, failure: ModelFailure): void {
    this.#change(name, (model) => model.failure = failure);
  }

  /** A worker has no room: next time a larger place is looked for. */
  needsMore(name: string, bytes: number): void {
    this.#change(name, (model) => model.bytes = Math.max(model.bytes, bytes));
  }

  succeeded(name: string): void {
    this.#change(name, (model) => model.failure = undefined);
  }

  failureOf(name: string): ModelFailure | undefined {
    return this.#models.get(name)?.failure;
  }

  #addModel(model: ScaledModel): void {
    this.#models.set(model.name, model);
    this.#members.add(model);
    this.#stirring.stir(model);
  }

  #change(name: string, change: (model: ScaledModel) => void): void {
    const model = this.#models.get(name);
    if (!model) return;
    change(model);
    this.#stirring.stir(model);
  }

  #look(): Look {
    const { mesh, nowMs } = this.#options;
    const look = lookAt(mesh, nowMs());
    this.#history.look(look.workers, look.nowMs);
    return look;
  }

  /** Everything, now and then; and as soon as there is something to be seen again. */
  #stirByTime(): void {
    const { mesh, nowMs, lookAtAllMs = 60_000 } = this.#options;
    const blind = mesh.isBlind();
    const isBack = this.#wasBlind && !blind;
    this.#wasBlind = blind;
    if (!isBack && nowMs() - this.#lookedAtAllMs < lookAtAllMs) return;
    this.#lookedAtAllMs = nowMs();
    for (const model of this.#models.values()) this.#stirring.stir(model);
    for (const pool of this.#pools.values()) this.#stirring.stirPool(pool);
  }

  #stirNamed(name: string): void {
    const model = this.#models.get(name);
    if (model) this.#stirring.stir(model);
  }

  #poolsOf(model: ScaledModel): ScaledPool[] {
    return this.#members.poolsOf(model)
      .flatMap((name) => this.#pools.get(name) ?? []);
  }

  #poolOfPod(pod: string): ScaledPool | undefined {
    const { podsOf } = this.#options;
    return this.#pools.values().find((pool) =>
      podsOf(pool.name).some(({ name }) => name === pod)
    );
  }

  #lookAtModel(model: ScaledModel, look: Look): void {
    const arrivals = this.#options.mesh.traffic(model.name)?.arrivals ?? 0;
    const now = look.nowOf(model.name);
    model.look(now);
    if (model.isDue(now, arrivals, look.nowMs)) this.#decide(model, now, look);
    else if (model.rests(now, arrivals)) {
      model.settleDown(now);
      this.#stirring.models.delete(model);
    }
  }

  #decide(model: ScaledModel, now: ModelNow, { nowMs }: Look): void {
    const pool = this.#pools.get(model.spec.pool);
    const change = model.decide(now, {
      arrivals: this.#options.mesh.traffic(model.name)?.takeArrivals() ?? 0,
      slots: pool?.spec.runtime.runningMax ?? slotsDefault,
      // A pool of its own may have a pod on its way that was ordered before our time.
      wantedAtFirst: pool?.spec.sharing === "dedicated" ? pool.wanted : 0,
      nowMs,
    });
    if (change) this.#options.onModel(change);
  }

  #stepPool(pool: ScaledPool, look: Look, wakeOf?: string): void {
    this.#stirring.stirPool(pool);
    const { podsOf, pendingOf, isProtected, onPool, onActions } = this.#options;
    const models = this.#members.of(pool.name);
    const { actions, from, decision, settled } = pool.step({
      look,
      pods: podsOf(pool.name),
      models,
      history: this.#history,
      pendingOf,
      isProtected: (model) => isProtected(model, pool.name),
    });
    const mayRest = settled && this.#options.lookAtAllMs !== 0;
    if (mayRest) this.#stirring.restPool(pool, models);
    if (actions.length > 0) onActions(pool.name, actions);
    if (from !== decision.wanted) {
      onPool({ pool: pool.name, from, decision, wakeOf });
    }
  }
}

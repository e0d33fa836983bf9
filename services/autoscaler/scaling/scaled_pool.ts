import type { WorkerPoolSpec } from "../crds/mod.ts";
import { maxOf, minOf } from "../forecast/time_window.ts";
import { emptyPool, type PoolState } from "../placement/mod.ts";
import { decidePool, type PoolDecision, type PoolWish } from "./decide_pool.ts";
import type { Look } from "./look.ts";
import { wishOf } from "./model_wish.ts";
import type { PlacementHistory } from "./placement_history.ts";
import {
  type Action,
  type PlacementDemand,
  planPlacement,
  type PoolWorker,
} from "./plan_placement.ts";
import {
  bytesPerWorker,
  hasWork,
  isUsable,
  joinWorkers,
  type PodView,
  silentCount,
  unheard,
} from "./pool_workers.ts";
import type { ScaledModel } from "./scaled_model.ts";

export interface PoolSurroundings {
  readonly look: Look;
  readonly pods: readonly PodView[];
  /** Those that name the pool. */
  readonly models: readonly ScaledModel[];
  readonly history: PlacementHistory;
  readonly pendingOf: (workerId: string) => ReadonlySet<string>;
  readonly isProtected: (model: string) => boolean;
}

export interface PoolStep {
  /** What should be done on the workers now. */
  readonly actions: readonly Action[];
  /** Pods wanted before. */
  readonly from: number;
  readonly decision: PoolDecision;
  /** Apart from its models: until something is told, another step would say the same. */
  readonly settled: boolean;
}

interface Member {
  readonly model: ScaledModel;
  readonly wish: PoolWish;
}

/** One WorkerPool: how many pods it should have, and what they should hold. */
export class ScaledPool {
  readonly name: string;
  spec: WorkerPoolSpec;
  #wanted: number;
  #reason = "steady";
  #state: PoolState;
  #busyShare = 0;
  #lookedAtMs: number;
  #rests = false;

  /** @param current Pods that it had when first seen. */
  constructor(
    name: string,
    spec: WorkerPoolSpec,
    { current, nowMs }: { readonly current: number; readonly nowMs: number },
  ) {
    this.name = name;
    this.spec = spec;
    this.#wanted = current;
    // As if this many had been wanted now: a new leader shrinks after a whole window.
    this.#state = current > 0 ? wishedAt(nowMs, current) : emptyPool;
    this.#lookedAtMs = nowMs;
  }

  get wanted(): number {
    return this.#wanted;
  }

  get reason(): string {
    return this.#reason;
  }

  /** Nothing changes until something is told. */
  rest(): void {
    this.#rests = true;
  }

  /**
   * Ends a rest. Through it the last wish stood and nobody was busy, which the
   * next step has to know: else it would shrink at once, or take one busy moment
   * for an hour of them.
   */
  stir(nowMs: number): void {
    if (!this.#rests) return;
    this.#rests = false;
    const { values } = this.#state.wishes;
    if (values.length > 0) {
      this.#state = wishedAt(nowMs - 1, maxOf(this.#state.wishes));
    }
    this.#mixBusy(0, nowMs);
  }

  /** Places models on the workers there are, then decides about their number. */
  step(around: PoolSurroundings): PoolStep {
    const { look, pods, history, pendingOf } = around;
    const workers = joinWorkers(pods, look.workers, pendingOf);
    const members = around.models.map((model) => ({
      model,
      wish: wishOf(model, this.name, this.spec),
    }));
    history.haveFiles(workers);
    this.#measureBusy(workers, look.nowMs);
    const actions = look.blind ? [] : this.#place(members, workers, around);
    const from = this.#wanted;
    const decision = this.#decide(members, workers, around);
    return {
      actions,
      from,
      decision,
      settled: !look.blind && actions.length === 0 &&
        from === decision.wanted && this.#isSteady() &&
        members.every(({ model }) => !isPending(model, look.nowMs)) &&
        workers.every((own) => own.pending.size === 0 && !hasWork(own)) &&
        unheard(pods, workers).length === 0,
    };
  }

  #isSteady(): boolean {
    const { wishes } = this.#state;
    return this.spec.replicas !== undefined || wishes.values.length === 0 ||
      minOf(wishes) === maxOf(wishes);
  }

  #decide(
    members: readonly Member[],
    workers: readonly PoolWorker[],
    { look, pods }: PoolSurroundings,
  ): PoolDecision {
    const from = this.#wanted;
    const wishes = members.map(({ wish }) => wish);
    const decision = decidePool(this.spec, wishes, {
      seen: {
        current: from,
        blind: look.blind,
        silent: silentCount(pods, workers, look.nowMs),
        inFlight: inFlight(members, look),
        unplacedBytes: this.#unplacedBytes(members, workers),
        busyShare: this.#busyShare,
        bytesPerWorker: bytesPerWorker(this.spec, workers),
      },
      state: this.#state,
      nowMs: look.nowMs,
    });
    this.#state = decision.state;
    this.#wanted = decision.wanted;
    if (from !== decision.wanted || decision.reason === "manual") {
      this.#reason = decision.reason;
    }
    return decision;
  }

  #place(
    members: readonly Member[],
    workers: readonly PoolWorker[],
    { look, history, isProtected }: PoolSurroundings,
  ): readonly Action[] {
    // In a pool of its own a model is on every worker there is.
    const copies = this.spec.sharing === "dedicated"
      ? workers.filter(isUsable).length
      : undefined;
    const demands = members.map(({ model, wish }): PlacementDemand => ({
      model: model.name,
      copies: copies ?? wish.copies,
      residency: wish.residency,
      held: look.nowOf(model.name).held,
      bytes: wish.bytes,
      share: wish.share,
      notBeforeMs: model.failure?.notBeforeMs ?? -Infinity,
    }));
    const { actions, unplaced } = planPlacement(demands, workers, {
      memory: history,
      nowMs: look.nowMs,
      isProtected,
    });
    for (const { model } of members) {
      model.unplaced = unplaced.includes(model.name);
    }
    return actions;
  }

  /** Weights without room, beyond what pods on their way will take. */
  #unplacedBytes(
    members: readonly Member[],
    workers: readonly PoolWorker[],
  ): number {
    // Without any worker nothing was tried: the plan itself brings the first.
    const homeless = members.filter(({ model }) => model.unplaced);
    const usable = workers.filter(isUsable).length;
    if (homeless.length === 0 || usable === 0) return 0;
    const starting = Math.max(0, this.#wanted - usable);
    const each = bytesPerWorker(this.spec, workers);
    // One worker on its way with no known limit takes them all.
    if (starting > 0 && each === Infinity) return 0;
    const bytes = homeless.reduce(
      (sum, { model }) => sum + Math.max(1, model.bytes),
      0,
    );
    return Math.max(0, bytes - (starting > 0 ? starting * each : 0));
  }

  #measureBusy(workers: readonly PoolWorker[], nowMs: number): void {
    const waits = workers.filter(({ models }) =>
      models.some(({ waiting }) => waiting > 0)
    );
    this.#mixBusy(workers.length && waits.length / workers.length, nowMs);
  }

  /** Half-life of a minute: a burst of seconds is no reason for a pod. */
  #mixBusy(share: number, nowMs: number): void {
    const elapsedMs = nowMs - this.#lookedAtMs;
    if (elapsedMs <= 0) return;
    this.#lookedAtMs = nowMs;
    const mix = 1 - 2 ** (-elapsedMs / 60_000);
    this.#busyShare += (share - this.#busyShare) * mix;
  }
}

function inFlight(members: readonly Member[], look: Look): number {
  return members.reduce((sum, { model }) => {
    const { running, waiting, held } = look.nowOf(model.name);
    return sum + running + waiting + held;
  }, 0);
}

/** Something about it is to be tried later. */
function isPending({ unplaced, failure }: ScaledModel, nowMs: number): boolean {
  return unplaced || (failure !== undefined && nowMs < failure.notBeforeMs);
}

function wishedAt(nowMs: number, count: number): PoolState {
  return { wishes: { atMs: [nowMs], values: [count] } };
}

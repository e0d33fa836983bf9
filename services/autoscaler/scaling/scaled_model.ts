import type { ModelSpec } from "../crds/mod.ts";
import { parseQuantity } from "../kube/mod.ts";
import type { BoundPolicy, Decision } from "../policies/mod.ts";
import { ConcurrencyMean, type ModelNow, signalsOf } from "./model_signals.ts";

/** A decision that wants something else than the one before. */
export interface ModelChange {
  readonly model: string;
  readonly policy: string;
  readonly from: { readonly copies: number; readonly residency: string };
  readonly decision: Decision<unknown>;
}

export interface ModelFailure {
  readonly workerId: string;
  readonly message: string;
  readonly attempts: number;
  /** Monotonic; nothing is tried before. */
  readonly notBeforeMs: number;
}

export interface Wake {
  /** Wall clock. */
  readonly atMs: number;
  readonly sinceMs: number;
  /** Absent until a worker serves. */
  readonly tookMs: number | undefined;
}

export interface ScaledModelOptions {
  readonly name: string;
  readonly spec: ModelSpec;
  readonly policy: BoundPolicy;
  /** Workers that serve it as we come. */
  readonly copies: number;
  /** From an earlier load; 0 while unknown. */
  readonly weightBytes: number;
  readonly nowMs: number;
}

/** One Model as its policy sees it: the last decision, and what led to it. */
export class ScaledModel {
  readonly name: string;
  /** Memory that it takes on a worker; 0 while unknown. */
  bytes: number;
  weightBytes: number;
  /** Wanted on more workers than have room. */
  unplaced = false;
  failure: ModelFailure | undefined;
  #spec: ModelSpec;
  #policy: BoundPolicy;
  #state: unknown;
  #decision: Decision<unknown> | undefined;
  #decidedAtMs = -Infinity;
  #wake: Wake | undefined;
  readonly #mean = new ConcurrencyMean();

  constructor(options: ScaledModelOptions) {
    const { name, spec, policy, copies, weightBytes, nowMs } = options;
    this.name = name;
    this.#spec = spec;
    this.#policy = policy;
    this.#state = policy.initialState(copies, nowMs);
    this.bytes = weightBytes || sizeOf(spec);
    this.weightBytes = weightBytes;
  }

  get spec(): ModelSpec {
    return this.#spec;
  }

  get decision(): Decision<unknown> | undefined {
    return this.#decision;
  }

  get wake(): Wake | undefined {
    return this.#wake;
  }

  /** Workers that should have it, by the last decision. */
  get copies(): number {
    return this.#decision?.replicas ?? 0;
  }

  /** Follows a changed spec; the same policy keeps what it knows. */
  respec(spec: ModelSpec, policy: BoundPolicy, nowMs: number): void {
    if (policy.name !== this.#policy.name) {
      this.#state = policy.initialState(this.copies, nowMs);
    }
    this.#spec = spec;
    this.#policy = policy;
    this.#decidedAtMs = -Infinity;
    // What was settled under the old spec need not be under the new one.
    if (this.#decision) this.#decision = { ...this.#decision, settled: false };
    this.failure = undefined;
    this.bytes = Math.max(this.bytes, sizeOf(spec));
  }

  /** Counts one look into the mean of what is in the mesh. */
  look(now: ModelNow): void {
    this.#mean.look(now);
  }

  isDue(now: ModelNow, arrivals: number, nowMs: number): boolean {
    if (now.held > 0 && this.copies === 0) return true;
    if (nowMs < this.#decidedAtMs + this.#policy.periodMs) return false;
    return !this.rests(now, arrivals);
  }

  /** Nobody asks for it, and deciding again would say the same. */
  rests(now: ModelNow, arrivals: number): boolean {
    const quiet = now.running + now.waiting + now.held + arrivals === 0;
    return quiet && this.#decision?.settled === true;
  }

  /** Forgets the looks of a rest, which would thin out the next mean. */
  settleDown(now: ModelNow): void {
    this.#mean.take(now);
  }

  /** Asks the policy; answers when it wants something else than before. */
  decide(
    now: ModelNow,
    { arrivals, slots, wantedAtFirst, nowMs }: {
      readonly arrivals: number;
      readonly slots: number;
      /** Workers that were on their way before our time. */
      readonly wantedAtFirst: number;
      readonly nowMs: number;
    },
  ): ModelChange | undefined {
    const before = this.#decision;
    const signals = signalsOf(now, {
      arrivals,
      concurrency: this.#mean.take(now),
      wanted: before?.replicas ?? Math.max(now.ready, wantedAtFirst),
      slots,
      observedAtMs: nowMs,
    });
    const decision = this.#policy.decide(signals, this.#state, nowMs);
    this.#state = decision.state;
    this.#decision = decision;
    this.#decidedAtMs = nowMs;
    const from = {
      copies: before?.replicas ?? now.ready,
      residency: before?.residency ?? "absent",
    };
    const isNew = from.copies !== decision.replicas ||
      from.residency !== decision.residency;
    if (!isNew) return undefined;
    return { model: this.name, policy: this.#policy.name, from, decision };
  }

  /** Requests are held: the cold start is timed from here, unless one is already. */
  startWake(nowMs: number): void {
    if (this.#wake && this.#wake.tookMs === undefined) return;
    this.#wake = { atMs: Date.now(), sinceMs: nowMs, tookMs: undefined };
  }

  /** A worker serves it. */
  endWake(nowMs: number): void {
    if (!this.#wake || this.#wake.tookMs !== undefined) return;
    this.#wake = { ...this.#wake, tookMs: nowMs - this.#wake.sinceMs };
  }
}

function sizeOf({ size }: ModelSpec): number {
  return size === undefined ? 0 : parseQuantity(size) ?? 0;
}

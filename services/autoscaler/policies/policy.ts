import type { ModelSignals } from "../signals.ts";

/** Where a model's weights are wanted; see `tail.ts` for who chooses it. */
export type Residency = "dedicated" | "shared" | "asleep" | "absent";

export interface ScalingBounds {
  readonly replicasMin: number;
  readonly replicasMax: number;
}

/** What to do about one model, and why. */
export interface Decision<State> {
  /** `hold` keeps what is there: the signals do not support a change. */
  readonly kind: "scale" | "hold";
  /** Replicas wanted, starting ones included. */
  readonly replicas: number;
  readonly residency: Residency;
  /** One word for the branch taken: `panic`, `shrink-delay`, `no-data`. */
  readonly reason: string;
  /** The numbers that made the decision, as an operator would want them printed. */
  readonly numbers: Readonly<Record<string, number>>;
  readonly state: State;
  /** Until a signal changes, deciding again gives the same: the loop may skip the model. */
  readonly settled: boolean;
}

/**
 * A scaling rule: pure, so that the controller and the simulator run the same
 * code and a decision can be replayed from its inputs.
 */
export interface Policy<Config extends ScalingBounds, State> {
  /** One line for `--help` and the docs. */
  readonly summary: string;
  /** How often the rule expects to be asked. */
  readonly periodMs: number;
  readonly defaults: Config;
  initialState(replicas: number, nowMs: number): State;
  decide(
    signals: ModelSignals,
    config: Config,
    state: State,
    nowMs: number,
  ): Decision<State>;
}

/** A policy with its configuration filled in; states are opaque to the caller. */
export interface BoundPolicy {
  readonly name: string;
  readonly periodMs: number;
  readonly config: ScalingBounds;
  initialState(replicas: number, nowMs: number): unknown;
  decide(
    signals: ModelSignals,
    state: unknown,
    nowMs: number,
  ): Decision<unknown>;
}

export function bindPolicy<Config extends ScalingBounds, State>(
  name: string,
  policy: Policy<Config, State>,
  overrides: Partial<Config>,
): BoundPolicy {
  const config = { ...policy.defaults, ...overrides };
  return {
    name,
    periodMs: policy.periodMs,
    config,
    initialState: (replicas, nowMs) => policy.initialState(replicas, nowMs),
    decide: (signals, state, nowMs) =>
      policy.decide(signals, config, state as State, nowMs),
  };
}

/** Keeps a wish inside the bounds; the maximum wins when they cross. */
export function clampReplicas(wish: number, bounds: ScalingBounds): number {
  return Math.min(bounds.replicasMax, Math.max(bounds.replicasMin, wish));
}

/** Wanted now, ready or on the way. */
export function replicasCurrent(signals: ModelSignals): number {
  return signals.replicasReady + signals.replicasStarting;
}

/** Stands still, within the bounds and with one replica for whoever is held. */
export function holdReplicas<State>(
  signals: ModelSignals,
  bounds: ScalingBounds,
  state: State,
  reason: string,
): Decision<State> {
  const floor = signals.held > 0 ? 1 : 0;
  const replicas = clampReplicas(
    Math.max(floor, replicasCurrent(signals)),
    bounds,
  );
  return {
    kind: "hold",
    replicas,
    residency: replicas > 0 ? "dedicated" : "absent",
    reason,
    numbers: { held: signals.held },
    state,
    settled: false,
  };
}

/** A decision of a rule that knows only whole replicas. */
export function scaleTo<State>(
  replicas: number,
  outcome: {
    reason: string;
    numbers: Readonly<Record<string, number>>;
    state: State;
    settled?: boolean;
  },
): Decision<State> {
  return {
    kind: "scale",
    replicas,
    residency: replicas > 0 ? "dedicated" : "absent",
    reason: outcome.reason,
    numbers: outcome.numbers,
    state: outcome.state,
    settled: outcome.settled ?? false,
  };
}

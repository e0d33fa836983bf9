/** Signals and drives for the tests of policies. */
import fc from "fast-check";
import type { ModelSignals } from "../signals.ts";
import type { BoundPolicy, Decision } from "./mod.ts";

export const slots = 8;

/** Signals of a quiet moment; tests say what differs. */
export function signalsWith(
  changes: Partial<ModelSignals>,
  nowMs = 0,
): ModelSignals {
  const running = changes.running ?? 0;
  const waiting = changes.waiting ?? 0;
  const held = changes.held ?? 0;
  return {
    observedAtMs: nowMs,
    arrivals: 0,
    concurrency: running + waiting + held,
    running,
    waiting,
    held,
    replicasReady: 1,
    replicasStarting: 0,
    slotsPerReplica: slots,
    ...changes,
  };
}

/** Consistent signals: what is queued beyond the slots waits, or is held without replicas. */
export function signalsOf(
  load: number,
  replicasReady: number,
  more: { nowMs: number; replicasStarting?: number; arrivals?: number },
): ModelSignals {
  const running = Math.min(load, replicasReady * slots);
  const queued = load - running;
  return signalsWith({
    observedAtMs: more.nowMs,
    arrivals: more.arrivals ?? (load > 0 ? 1 : 0),
    running,
    waiting: replicasReady > 0 ? queued : 0,
    held: replicasReady > 0 ? 0 : queued,
    replicasReady,
    replicasStarting: more.replicasStarting ?? 0,
  }, more.nowMs);
}

export interface Step {
  readonly nowMs: number;
  readonly signals: ModelSignals;
  readonly decision: Decision<unknown>;
}

/**
 * Runs a policy over loads, one per period; its replicas become ready
 * `startPeriods` later.
 */
export function drive(
  policy: BoundPolicy,
  loads: readonly number[],
  options: { replicas?: number; startPeriods?: number } = {},
): Step[] {
  const { replicas = 1, startPeriods = 0 } = options;
  let state = policy.initialState(replicas, 0);
  let ready = replicas;
  const wanted: number[] = [];
  return loads.map((load, i) => {
    const nowMs = (i + 1) * policy.periodMs;
    const last = wanted.at(-1) ?? replicas;
    const started = i >= startPeriods
      ? wanted[i - 1 - startPeriods] ?? replicas
      : replicas;
    // Started ones become ready in time, given up ones are gone at once.
    ready = Math.min(last, Math.max(ready, started));
    const signals = signalsOf(load, ready, {
      nowMs,
      replicasStarting: last - ready,
    });
    const decision = policy.decide(signals, state, nowMs);
    state = decision.state;
    wanted.push(decision.replicas);
    return { nowMs, signals, decision };
  });
}

/** Changes of direction in a series. */
export function reversals(series: readonly number[]): number {
  let count = 0;
  let direction = 0;
  for (let i = 1; i < series.length; i++) {
    const change = Math.sign(series[i] - series[i - 1]);
    if (change === 0) continue;
    if (direction !== 0 && change !== direction) count++;
    direction = change;
  }
  return count;
}

/** Any moment; the mean since the last decision may be anything up to what is there now. */
export const anySignals: fc.Arbitrary<ModelSignals> = fc.record({
  load: fc.nat(400),
  ready: fc.oneof(fc.nat(2), fc.nat(30)),
  starting: fc.nat(10),
  arrivals: fc.nat(100),
  meanShare: fc.constantFrom(0, 0.1, 0.5, 1),
}).map(({ load, ready, starting, arrivals, meanShare }) => ({
  ...signalsOf(load, ready, {
    nowMs: 0,
    replicasStarting: starting,
    arrivals: Math.max(arrivals, load > 0 ? 1 : 0),
  }),
  concurrency: load * meanShare,
}));

export const anyLoads: fc.Arbitrary<number[]> = fc.array(
  fc.oneof(fc.nat(10), fc.nat(300), fc.constant(0)),
  { minLength: 5, maxLength: 60 },
);

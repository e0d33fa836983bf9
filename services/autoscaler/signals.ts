/**
 * What a scaling policy sees of one model.
 *
 * The controller fills it from `mesh.traffic.<model>` (arrivals, held, running)
 * and the `workers` bucket (replicas, slots); the simulator from its own queues.
 * Counts are of the whole model, all replicas together, unless the name says
 * otherwise: a per-replica average used where a total is meant is how a policy
 * comes to shrink under overload.
 */
export interface ModelSignals {
  /** When the newest report behind these numbers was made; absent before any. */
  readonly observedAtMs: number | undefined;
  /** Requests that arrived since the previous decision. */
  readonly arrivals: number;
  /** Mean requests in the mesh (running, waiting and held) since the previous decision. */
  readonly concurrency: number;
  /** Requests that hold a slot now. */
  readonly running: number;
  /** Requests queued behind live replicas now. */
  readonly waiting: number;
  /** Requests held now because no replica serves the model. */
  readonly held: number;
  readonly replicasReady: number;
  readonly replicasStarting: number;
  /** Requests one replica runs at once. */
  readonly slotsPerReplica: number;
}

/** Reports older than this say nothing about now; the bus repeats them every second. */
export const staleAfterMs = 30_000;

/** True when nothing recent is known: the one time every policy must stand still. */
export function isBlind(signals: ModelSignals, nowMs: number): boolean {
  return signals.observedAtMs === undefined ||
    nowMs - signals.observedAtMs > staleAfterMs;
}

/** Requests anywhere in the mesh now. */
export function inFlight(signals: ModelSignals): number {
  return signals.running + signals.waiting + signals.held;
}

/** Every slot of every ready replica is taken, or requests wait. */
export function isSaturated(signals: ModelSignals): boolean {
  return inFlight(signals) > 0 &&
    inFlight(signals) >= signals.replicasReady * signals.slotsPerReplica;
}

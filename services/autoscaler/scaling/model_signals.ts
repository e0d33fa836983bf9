import type { WorkerRecord } from "../../../lib/bus/types.ts";
import type { ModelTraffic } from "../mesh/model_traffic.ts";
import type { ModelSignals } from "../signals.ts";

/** Requests one worker runs at once when the pool does not say; the engine's default. */
export const slotsDefault = 64;

/** What is there of one model now. */
export interface ModelNow {
  readonly running: number;
  readonly waiting: number;
  readonly held: number;
  /** Workers that serve it. */
  readonly ready: number;
}

/** What decode workers have of each model, added up once per look. */
export type WorkerTally = ReadonlyMap<string, Tally>;

interface Tally {
  readonly running: number;
  readonly waiting: number;
  readonly ready: number;
}

export function tallyWorkers(workers: readonly WorkerRecord[]): WorkerTally {
  const tally = new Map<string, Tally>();
  for (const { role, draining, models } of workers) {
    if (role !== "decode") continue;
    for (const { model, state, running, waiting } of models) {
      const sum = tally.get(model) ?? nothing;
      tally.set(model, {
        running: sum.running + running,
        waiting: sum.waiting + waiting,
        ready: sum.ready + (state === "running" && !draining ? 1 : 0),
      });
    }
  }
  return tally;
}

const nothing: Tally = { running: 0, waiting: 0, ready: 0 };

/** Joins records and routers' words; the larger count of the two is believed. */
export function modelNow(
  model: string,
  tally: WorkerTally,
  { traffic, nowMs }: { traffic: ModelTraffic | undefined; nowMs: number },
): ModelNow {
  const { running, waiting, ready } = tally.get(model) ?? nothing;
  const atWorkers = traffic?.running(nowMs) ?? 0;
  return {
    running: Math.max(running, atWorkers - waiting),
    waiting,
    held: traffic?.held(nowMs) ?? 0,
    ready,
  };
}

/** A mean over the looks since the last decision. */
export class ConcurrencyMean {
  #sum = 0;
  #count = 0;

  look({ running, waiting, held }: ModelNow): void {
    this.#sum += running + waiting + held;
    this.#count++;
  }

  /** The mean of the looks so far; starts anew. */
  take(now: ModelNow): number {
    if (this.#count === 0) this.look(now);
    const mean = this.#sum / this.#count;
    this.#sum = 0;
    this.#count = 0;
    return mean;
  }
}

export function signalsOf(
  now: ModelNow,
  { arrivals, concurrency, wanted, slots, observedAtMs }: {
    readonly arrivals: number;
    readonly concurrency: number;
    /** Workers wanted by the last decision. */
    readonly wanted: number;
    readonly slots: number;
    readonly observedAtMs: number | undefined;
  },
): ModelSignals {
  return {
    observedAtMs,
    arrivals,
    // Who is held now is held whatever the mean says: a mean of looks may precede it.
    concurrency: now.held > 0
      ? Math.max(concurrency, now.held + now.running + now.waiting)
      : concurrency,
    running: now.running,
    waiting: now.waiting,
    held: now.held,
    replicasReady: now.ready,
    replicasStarting: Math.max(0, wanted - now.ready),
    slotsPerReplica: slots,
  };
}

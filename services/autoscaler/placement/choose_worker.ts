import {
  type ResidentView,
  sourceFor,
  type WeightsSource,
  type WorkerView,
} from "./worker_view.ts";

export interface LoadRequest {
  readonly model: number;
  readonly weightsBytes: number;
  readonly wakeMs: Readonly<Record<WeightsSource, number>>;
  /** GPU share the model is expected to keep busy. */
  readonly share: number;
  /** It gets the whole worker. */
  readonly dedicated: boolean;
}

export interface PlacementConfig {
  /** Requests a worker should not exceed, all models together. */
  readonly sequencesMax: number;
  /** What moving a wanted model away costs on top of waking it again. */
  readonly moveCostMs: number;
  /** Delay one more GPU's worth of load on a worker stands for. */
  readonly contentionMs: number;
}

export const placementDefaults: PlacementConfig = {
  sequencesMax: 64,
  moveCostMs: 5_000,
  contentionMs: 4_000,
};

export interface Placement {
  readonly worker: number;
  readonly source: WeightsSource;
  /** Idle models to put to sleep first, least recently used first. */
  readonly evict: readonly number[];
  /** The numbers of the choice, in milliseconds; the smallest sum won. */
  readonly cost: {
    readonly loadMs: number;
    readonly queueMs: number;
    readonly contentionMs: number;
    readonly moveMs: number;
  };
}

/**
 * The worker on which a model should be loaded.
 *
 * Every candidate is priced in milliseconds, so that unlike things compare:
 * loading from where that worker's node has the weights, loads already queued
 * on its link, the requests it is busy with, and what it would have to put out.
 * Only idle models are put out, unwanted before wanted, longest unused first; a
 * wanted one costs `moveCostMs` and its wake-up. The cheapest wins, ties go to
 * the lower id, so equal inputs give equal placements. `undefined`: no room.
 *
 * Example: 8B in the host memory of A (0.9 s) and on the disk of B (2.4 s). A
 * runs 16 of 64 requests (16/64 * 4 s = 1 s), B none: 1.9 s against 2.4 s: A.
 */
export function chooseWorker(
  request: LoadRequest,
  workers: readonly WorkerView[],
  seen: { config: PlacementConfig; nowMs: number; wakeMsOf: WakeMsOf },
): Placement | undefined {
  let best: Placement | undefined;
  let bestMs = Infinity;
  for (const worker of workers) {
    if (!isCandidate(worker, request, seen.config)) continue;
    const placement = priced(request, worker, seen);
    if (!placement) continue;
    const { loadMs, queueMs, contentionMs, moveMs } = placement.cost;
    const sumMs = loadMs + queueMs + contentionMs + moveMs;
    if (sumMs < bestMs) {
      best = placement;
      bestMs = sumMs;
    }
  }
  return best;
}

/** What waking a model from host memory takes, to price putting it out. */
export type WakeMsOf = (model: number) => number;

function isCandidate(
  worker: WorkerView,
  request: LoadRequest,
  config: PlacementConfig,
): boolean {
  return worker.ready && !worker.draining &&
    worker.dedicatedTo === undefined &&
    !worker.residents.has(request.model) &&
    request.weightsBytes <= worker.weightsBytesMax &&
    (request.dedicated || worker.sequences < config.sequencesMax);
}

function priced(
  request: LoadRequest,
  worker: WorkerView,
  seen: { config: PlacementConfig; nowMs: number; wakeMsOf: WakeMsOf },
): Placement | undefined {
  const evictable = evictionOrder(worker);
  let freeBytes = worker.weightsBytesMax - worker.weightsBytes;
  let moveMs = 0;
  const evict: number[] = [];
  for (const resident of evictable) {
    const enough = freeBytes >= request.weightsBytes;
    if (enough && !request.dedicated) break;
    evict.push(resident.model);
    freeBytes += resident.weightsBytes;
    if (resident.wanted) {
      moveMs += seen.config.moveCostMs + seen.wakeMsOf(resident.model);
    }
  }
  if (freeBytes < request.weightsBytes) return undefined;
  // A dedicated model has to wait for whoever still runs here, so it avoids them.
  const staying = worker.residents.size - evict.length;
  if (request.dedicated && staying > 0) {
    moveMs += staying * seen.config.moveCostMs;
  }
  const source = sourceFor(worker, request.model);
  return {
    worker: worker.id,
    source,
    evict,
    cost: {
      loadMs: request.wakeMs[source],
      queueMs: Math.max(0, worker.loadingUntilMs - seen.nowMs),
      contentionMs: (worker.sequences / seen.config.sequencesMax) *
        seen.config.contentionMs,
      moveMs,
    },
  };
}

/** Idle residents, unwanted first, then by how long they have been idle. */
function evictionOrder(worker: WorkerView): ResidentView[] {
  const idle: ResidentView[] = [];
  for (const resident of worker.residents.values()) {
    if (!resident.loading && resident.sequences === 0) idle.push(resident);
  }
  return idle.sort((a, b) =>
    Number(a.wanted) - Number(b.wanted) || a.lastUsedMs - b.lastUsedMs ||
    a.model - b.model
  );
}

import type { WorkerRecord } from "../../../lib/bus/types.ts";
import type { MeshView } from "../mesh/mesh_view.ts";
import {
  type ModelNow,
  modelNow,
  tallyWorkers,
  type WorkerTally,
} from "./model_signals.ts";

/** The mesh at one moment: what is decided together is decided from one look. */
export interface Look {
  /** Monotonic. */
  readonly nowMs: number;
  /** What we know may be old: nothing is decided. */
  readonly blind: boolean;
  readonly workers: readonly WorkerRecord[];
  readonly tally: WorkerTally;
  /** What there is of one model. */
  nowOf(model: string): ModelNow;
}

export function lookAt(mesh: MeshView, nowMs: number): Look {
  const workers = mesh.workers();
  const tally = tallyWorkers(workers);
  return {
    nowMs,
    blind: mesh.isBlind(),
    workers,
    tally,
    nowOf: (model) =>
      modelNow(model, tally, { traffic: mesh.traffic(model), nowMs }),
  };
}

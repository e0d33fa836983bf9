import type { WorkerRecord } from "../../../lib/bus/types.ts";
import type { MeshView } from "../mesh/mesh_view.ts";
import type { Decision } from "../policies/mod.ts";
import { type ModelNow, modelNow, tallyWorkers } from "./model_signals.ts";
import type { ModelFailure, ScaledModel, Wake } from "./scaled_model.ts";

/** What is known of one model, for its status. */
export interface ModelView {
  readonly model: string;
  readonly copies: number;
  readonly decision: Decision<unknown> | undefined;
  readonly now: ModelNow;
  /** Those that have it, in whatever state. */
  readonly workers: readonly WorkerRecord[];
  readonly unplaced: boolean;
  readonly failure: ModelFailure | undefined;
  readonly weightBytes: number;
  readonly lastWake: Wake | undefined;
}

export function viewOf(
  model: ScaledModel,
  mesh: MeshView,
  nowMs: number,
): ModelView {
  const { name, copies, decision, unplaced, failure, weightBytes } = model;
  const workers = mesh.workers().filter((worker) =>
    worker.models.some((own) => own.model === name)
  );
  const traffic = mesh.traffic(name);
  return {
    model: name,
    copies,
    decision,
    now: modelNow(name, tallyWorkers(workers), { traffic, nowMs }),
    workers,
    unplaced,
    failure,
    weightBytes,
    lastWake: model.wake,
  };
}

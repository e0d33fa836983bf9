/** When another worker is asked after one has failed, and what becomes of that one. */
import { Code, type MeshError } from "../../../lib/errors/mesh_error.ts";
import type { Worker, WorkerTable } from "../workers/worker_table.ts";
import { StalledError } from "./progress_watch.ts";

/** Whether another worker may do better. */
export function goesOnElsewhere({ code }: MeshError): boolean {
  return elsewhere.has(code);
}

const elsewhere: ReadonlySet<Code> = new Set([
  Code.unavailable, // dead, unreachable, draining
  Code.internal, // its fault, perhaps not the next one's
  Code.dataLoss,
  Code.cancelled, // not by us: a connection that was torn down
  Code.resourceExhausted, // its queue is full
  Code.notFound, // unloaded the model meanwhile
  Code.failedPrecondition,
  Code.unimplemented,
]);

/** The worker that failed gets nothing for a while: nothing at all, or nothing of this model. */
export function setAside(
  worker: Worker,
  failure: MeshError,
  { workers, request: { model } }: {
    readonly workers: WorkerTable;
    readonly request: { readonly model: { readonly name: string } };
  },
): void {
  if (failure.field === "model") workers.avoid(worker, model.name);
  else if (failure.code === Code.resourceExhausted) workers.spare(worker);
  else {
    const hangs = failure instanceof StalledError;
    workers.distrust(worker, hangs ? failure.silentMs : 0);
  }
}

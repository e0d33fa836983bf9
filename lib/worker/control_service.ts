import {
  type DrainRequest,
  type DrainResponse,
  ModelState,
  type StatusRequest,
  type StatusResponse,
  WorkerControlService,
} from "../../proto/gen/quetzal/v1/control.ts";
import { Code, MeshError } from "../errors/mesh_error.ts";
import { type RpcService, unary } from "../rpc/mod.ts";
import type { Worker } from "./worker.ts";

/** `quetzal.v1.WorkerControl` of one worker. */
export function controlService(worker: () => Worker): RpcService {
  return {
    name: "quetzal.v1.WorkerControl",
    definition: WorkerControlService,
    implementation: {
      status: unary<StatusRequest, StatusResponse>(() => statusOf(worker())),
      drain: unary<DrainRequest, DrainResponse>(async (_request, call) => {
        const { admission } = worker();
        worker().startDrain();
        // Answers in time to reach a caller with a deadline.
        const beforeMs = (call.deadlineMs ?? Infinity) - Date.now() - 100;
        await admission.whenIdle(boundBy(call.signal, beforeMs));
        return { remaining: admission.running };
      }),
      load: unary(notYet),
      unload: unary(notYet),
      sleep: unary(notYet),
      wake: unary(notYet),
    },
  };
}

function notYet(): never {
  throw new MeshError(
    Code.unimplemented,
    "Cannot change this worker's models: it serves those of QUETZAL_MODELS only",
  );
}

function boundBy(signal: AbortSignal, ms: number): AbortSignal {
  if (ms > 2 ** 31 - 1) return signal;
  return AbortSignal.any([signal, AbortSignal.timeout(Math.max(0, ms))]);
}

function statusOf(
  { role, workerId, admission, models }: Worker,
): StatusResponse {
  return {
    workerId,
    role,
    draining: admission.draining,
    memoryBytesTotal: 0n,
    memoryBytesFree: 0n,
    models: models.records().map((record) => ({
      model: record.model,
      fingerprint: record.fingerprint,
      blocksTotal: record.blocksTotal,
      blocksFree: record.blocksFree,
      running: record.running,
      waiting: record.waiting,
      state: ModelState.MODEL_STATE_RUNNING,
      weightBytes: BigInt(record.weightBytes),
      kvBytes: BigInt(record.kvBytes),
      error: "",
      progress: 1,
    })),
  };
}

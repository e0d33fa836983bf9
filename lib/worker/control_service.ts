/** `quetzal.v1.WorkerControl` of one worker. */
import {
  type DrainRequest,
  type DrainResponse,
  type LoadRequest,
  type ModelSource as ProtoSource,
  ModelState,
  type ModelStatus,
  type SleepRequest,
  type StatusRequest,
  type StatusResponse,
  type UnloadRequest,
  type UnloadResponse,
  type WakeRequest,
  WorkerControlService,
} from "../../proto/gen/quetzal/v1/control.ts";
import type { WorkerModelState } from "../bus/types.ts";
import { Code, MeshError } from "../errors/mesh_error.ts";
import { parseSource, type RawSource } from "../model_source/parse_source.ts";
import { type CallContext, type RpcService, unary } from "../rpc/mod.ts";
import type { DrainBound, ModelHost } from "./model_host.ts";
import type { ModelReport } from "./served_models.ts";
import type { Worker } from "./worker.ts";

export function controlService(
  worker: () => Worker,
  { drainMs }: {
    /** For running sequences when a call has no deadline. */
    readonly drainMs: number;
  },
): RpcService {
  const bound = (call: CallContext) => boundOf(call, drainMs);
  return {
    name: "quetzal.v1.WorkerControl",
    definition: WorkerControlService,
    implementation: {
      status: unary<StatusRequest, StatusResponse>(() => statusOf(worker())),
      drain: unary<DrainRequest, DrainResponse>(async (_request, call) => {
        const { admission } = worker();
        worker().startDrain();
        const { signal, ms } = boundOf(call, Infinity);
        await admission.whenIdle(within(signal, ms));
        return { remaining: admission.running };
      }),
      load: unary<LoadRequest, ModelStatus>(async (request) => {
        const model = modelName(request.model);
        await hostOf(worker()).load({
          model,
          source: parseSource(toRaw(request.source)),
          asleep: request.asleep,
        });
        return modelStatus(worker(), model);
      }),
      unload: unary<UnloadRequest, UnloadResponse>(
        async ({ model }, call) => ({
          cut: await hostOf(worker()).unload(model, bound(call)),
        }),
      ),
      sleep: unary<SleepRequest, ModelStatus>(async ({ model }, call) => {
        await hostOf(worker()).sleep(model, bound(call));
        return modelStatus(worker(), model);
      }),
      wake: unary<WakeRequest, ModelStatus>(async ({ model }) => {
        await hostOf(worker()).wake(model);
        return modelStatus(worker(), model);
      }),
    },
  };
}

/** Closing an engine and answering have to be done before the caller's deadline. */
const answerShare = 0.2;
const answerMs = [100, 2_000] as const;

function boundOf(call: CallContext, fallbackMs: number): DrainBound {
  const { signal, deadlineMs } = call;
  if (deadlineMs === undefined) return { signal, ms: fallbackMs };
  const leftMs = deadlineMs - Date.now();
  const [min, max] = answerMs;
  const keptMs = Math.max(min, Math.min(leftMs * answerShare, max));
  return { signal, ms: leftMs - keptMs };
}

function within(signal: AbortSignal, ms: number): AbortSignal {
  if (ms > 2 ** 31 - 1) return signal;
  return AbortSignal.any([signal, AbortSignal.timeout(Math.max(0, ms))]);
}

function hostOf({ modelHost, admission }: Worker): ModelHost {
  if (modelHost === undefined) {
    throw new MeshError(
      Code.unimplemented,
      "Cannot change this worker's models: it serves those of its start only",
    );
  }
  if (admission.draining) {
    throw new MeshError(
      Code.unavailable,
      "Cannot change this worker's models: it is draining",
    );
  }
  return modelHost;
}

function modelName(name: string): string {
  if (name !== "" && name.length <= 512) return name;
  throw new MeshError(
    Code.invalidArgument,
    `Cannot load a model: model must be 1..512 characters, is ${name.length}`,
    { field: "model" },
  );
}

function toRaw(source: ProtoSource | undefined): RawSource {
  const { location, sha256 } = source ?? {};
  return { sha256, ...(location && { [location.$case]: location.value }) };
}

function statusOf(
  { role, workerId, admission, models, modelHost }: Worker,
): StatusResponse {
  return {
    workerId,
    role,
    draining: admission.draining,
    models: models.reports().map(toStatus),
    memoryBytesTotal: BigInt(modelHost?.budget.bytesTotal ?? 0),
    memoryBytesFree: BigInt(modelHost?.budget.bytesFree ?? 0),
  };
}

function modelStatus({ models }: Worker, name: string): ModelStatus {
  const report = models.reports().find(({ record }) => record.model === name);
  if (report !== undefined) return toStatus(report);
  throw new MeshError(
    Code.notFound,
    `Cannot tell the state of model "${name}": it was unloaded meanwhile`,
    { field: "model" },
  );
}

function toStatus({ record, error, progress }: ModelReport): ModelStatus {
  return {
    model: record.model,
    fingerprint: record.fingerprint,
    blocksTotal: record.blocksTotal,
    blocksFree: record.blocksFree,
    running: record.running,
    waiting: record.waiting,
    state: protoStates[record.state],
    weightBytes: BigInt(record.weightBytes),
    kvBytes: BigInt(record.kvBytes),
    error,
    progress,
  };
}

const protoStates: Readonly<Record<WorkerModelState, ModelState>> = {
  loading: ModelState.MODEL_STATE_LOADING,
  running: ModelState.MODEL_STATE_RUNNING,
  asleep: ModelState.MODEL_STATE_ASLEEP,
  waking: ModelState.MODEL_STATE_WAKING,
  failed: ModelState.MODEL_STATE_FAILED,
  unloading: ModelState.MODEL_STATE_UNLOADING,
};

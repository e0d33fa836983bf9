/** The life of a worker process, from its first log line to its exit. */
import { type Bus, connectBus } from "../bus/mod.ts";
import type { WorkerRole } from "../bus/types.ts";
import type { Native } from "../engine/native.ts";
import type { RpcService } from "../rpc/mod.ts";
import {
  createLogger,
  createRegistry,
  type Logger,
  serveMetrics,
  startTelemetry,
} from "../telemetry/mod.ts";
import { Admission } from "./admission.ts";
import type { WorkerConfig } from "./config.ts";
import { embedService } from "./embed_service.ts";
import { prepareModel } from "./load_models.ts";
import { defaultModelBytes, MemoryBudget } from "./memory_budget.ts";
import { createMeasuringObserver, type MeasuringObserver } from "./metrics.ts";
import { ModelHost } from "./model_host.ts";
import type { WorkerObserver } from "./observer.ts";
import { fetchModel } from "../model_source/mod.ts";
import { ServedModels } from "./served_models.ts";
import { firstStopSignal } from "../process/mod.ts";
import { startWorker, type Worker } from "./worker.ts";

export interface RunWorkerOptions<C extends WorkerConfig> {
  readonly role: WorkerRole;
  readonly config: C;
  /** Native code; the addon of this project unless set. */
  readonly native?: Native;
  /** Builds what the role serves. */
  readonly build: (parts: RoleParts) => Role;
  /** Ends the worker; the first stop signal unless set. */
  readonly stop?: Promise<string>;
}

/** What a role builds its service from. */
export interface RoleParts {
  readonly models: ServedModels;
  readonly admission: Admission;
  readonly crc32c: Native["crc32c"];
  readonly observer: WorkerObserver;
  readonly log: Logger;
}

export interface Role {
  readonly service: RpcService;
  /** Told when the bus is there, which may be long after the start. */
  joined?(bus: Bus): void;
  /** Called last, when nothing runs any more. */
  close?(): Promise<void>;
}

/**
 * Resolves with the exit code: 0 when the worker was told to stop and has drained, 1 when
 * it cannot go on, so that whoever started it starts it again.
 */
export async function runWorker<C extends WorkerConfig>(
  options: RunWorkerOptions<C>,
): Promise<number> {
  const { role, config } = options;
  const log = createLogger({ service: role, level: config.logLevel });
  try {
    await serveUntilStopped(options, log);
    return 0;
  } catch (reason) {
    log.fatal({ err: reason }, "The worker cannot go on");
    return 1;
  }
}

async function serveUntilStopped<C extends WorkerConfig>(
  { role, config, build, ...options }: RunWorkerOptions<C>,
  log: Logger,
): Promise<void> {
  const stop = (options.stop ?? firstStopSignal()).then(
    (signal): End => ({ kind: "stop", signal }),
  );
  const broken = Promise.withResolvers<End>();
  const end = Promise.race([stop, broken.promise]);
  await using open = new AsyncDisposableStack();
  open.use(startTelemetry({
    service: role,
    version,
    instanceId: config.workerId,
    endpoint: config.otlpEndpoint,
    onWarning: (message) => log.warn(message),
  }));
  const registry = createRegistry();
  const observer = createMeasuringObserver({ registry, log });
  const native = options.native ?? await loadAddon();
  const models = open.use(new ServedModels());
  models.loading = true;
  const admission = new Admission();
  const crc32c = (bytes: Uint8Array) => native.crc32c(bytes);
  const built = build({ models, admission, observer, log, crc32c });
  const embed = embedService({ models, admission, observer });
  open.defer(() => built.close?.());
  const modelHost = open.use(
    hostModels({ models, native, config, observer, log }),
  );
  // Known only once its server listens, which needs the worker.
  const late: { metricsAddress?: string } = {};
  const worker = open.use(
    await startWorker({
      role,
      workerId: config.workerId,
      host: config.host,
      port: config.port,
      advertise: config.advertise,
      models,
      modelHost,
      admission,
      podName: config.podName,
      drainMs: config.drainMs,
      services: [built.service, embed],
      metricsAddress: () => late.metricsAddress,
      onError: (what, reason) =>
        log.warn({ err: reason }, `Cannot ${what}; trying again`),
    }),
  );
  const metrics = open.use(
    await serveMetrics({
      port: config.metricsPort,
      host: config.host,
      registry,
      health: () => healthOf(worker),
    }),
  );
  late.metricsAddress = `${hostOf(worker.address)}:${metrics.port}`;
  const gauges = setInterval(() => {
    observer.readGauges(models, modelHost.budget);
    const fault = faultOf(worker);
    if (fault !== undefined) broken.resolve({ kind: "fault", fault });
  }, 1_000);
  open.defer(() => clearInterval(gauges));
  const { workerId, address } = worker;
  log.info(
    { workerId, address, metricsPort: metrics.port },
    "The worker listens",
  );
  open.use(joinWhenThere(worker, built, config, log));

  const loaded = loadAll(worker, modelHost, config);
  const endedEarly = await Promise.race([end, loaded]);
  if (endedEarly === undefined) {
    worker.ready();
    log.info({ models: config.models.length }, "All models are loaded");
  }
  // Told by the host already; the end does not wait for a load.
  loaded.catch(() => {});
  const why = await end;
  log.info({ ...why, running: admission.running }, "Draining");
  modelHost.stopLoading();
  const cutCount = await worker.drain(config.drainMs);
  log.info({ cutCount }, "Drained");
  if (why.kind === "fault") {
    throw new Error(`Cannot run models: needs a new process, ${why.fault}`);
  }
}

/** Why a worker ends. */
type End =
  | { readonly kind: "stop"; readonly signal: string }
  /** No engine recovers from it. */
  | { readonly kind: "fault"; readonly fault: string };

const version = "0.1.0";

/** "[::1]:5" and "host:5" without their ports. */
function hostOf(address: string): string {
  return address.replace(/:\d+$/, "");
}

async function loadAddon(): Promise<Native> {
  const { loadNative } = await import("../../kernels/addon/mod.ts");
  return await loadNative();
}

/** What loads the models of the start and those that are asked for later. */
function hostModels(
  { models, native, config, observer, log }: {
    readonly models: ServedModels;
    readonly native: Native;
    readonly config: WorkerConfig;
    readonly observer: MeasuringObserver;
    readonly log: Logger;
  },
): ModelHost {
  const memoryBytes = config.modelMemoryBytes ??
    defaultModelBytes(config.engine, native);
  models.listen({
    came: (model) => observer.watch(model),
    left: ({ name }) => observer.forget(name),
  });
  return new ModelHost({
    models,
    budget: new MemoryBudget(memoryBytes),
    fetchFile: (source, options) =>
      fetchModel(source, {
        ...options,
        folder: config.modelCache,
        bytesMax: config.modelBytesMax,
      }),
    prepare: (file) =>
      prepareModel(file, {
        native,
        config: config.engine,
        memoryBytes,
        warn: (message, details) => observer.warn(message, details),
      }),
    onDone(change) {
      observer.modelChanged(change);
      const { model, kind, ms, cut, error } = change;
      const details = { model, kind, ms: Math.round(ms), cut };
      if (error === undefined) log.info(details, "Model changed");
      else log.warn({ ...details, err: error }, "Cannot change the model");
    },
  });
}

async function loadAll(
  worker: Worker,
  modelHost: ModelHost,
  { models }: WorkerConfig,
): Promise<void> {
  for (const { name, path } of models) {
    if (worker.admission.draining) return;
    await modelHost.load({ model: name, source: { path }, asleep: false });
  }
}

/** Connects in the background, for as long as it takes; closes with the process. */
function joinWhenThere(
  worker: Worker,
  role: Role,
  config: WorkerConfig,
  log: Logger,
): AsyncDisposable {
  const controller = new AbortController();
  const connecting = connectBus({
    url: config.natsUrl,
    name: config.workerId,
    signal: controller.signal,
    onWarning: ({ message, cause }) =>
      log.warn({ cause: cause && String(cause) }, message),
  });
  const joined = connecting.then((bus) => {
    worker.join(bus);
    role.joined?.(bus);
    return bus;
  });
  joined.catch((reason) => {
    if (controller.signal.aborted) return;
    log.fatal({ err: reason }, "Cannot join the mesh");
    process.exit(1);
  });
  return {
    async [Symbol.asyncDispose]() {
      controller.abort(new Error("The worker stops"));
      await worker.leave();
      await joined.then((bus) => bus[Symbol.asyncDispose](), () => {
        // It never connected, so there is nothing to close.
      });
    },
  };
}

/** The first fault that no engine recovers from, such as a lost GPU. */
export function faultOf({ models }: Pick<Worker, "models">) {
  for (const { engine } of models) {
    const fault = engine.device?.()?.fault;
    if (fault !== undefined) return fault;
  }
  return undefined;
}

function healthOf(worker: Worker) {
  const { admission, models } = worker;
  const fault = faultOf(worker);
  if (fault !== undefined) return { ok: false as const, reason: fault };
  if (admission.draining) return { ok: false as const, reason: "draining" };
  if (models.loading) return { ok: false as const, reason: "loading models" };
  return { ok: true as const };
}

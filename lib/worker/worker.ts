import { setTimeout as delay } from "node:timers/promises";
import type { Bus, WorkerRecord, WorkerRole } from "../bus/types.ts";
import { type RpcService, startRpcServer } from "../rpc/mod.ts";
import { Admission } from "./admission.ts";
import { CachePublisher } from "./cache_publisher.ts";
import { controlService } from "./control_service.ts";
import type { ModelHost } from "./model_host.ts";
import { Registration } from "./registration.ts";
import type { ServedModel, ServedModels } from "./served_models.ts";

export interface WorkerOptions {
  readonly role: WorkerRole;
  readonly workerId: string;
  /** Interface to bind. */
  readonly host: string;
  /** 0 takes any free port. */
  readonly port: number;
  /** Host, or host:port, that others use; the bound ones unless set. */
  readonly advertise?: string;
  /** May be empty at first: see `addModel()`. The worker does not close them. */
  readonly models: ServedModels;
  readonly admission: Admission;
  /** Loads and unloads on request; without one the models stay as they are. */
  readonly modelHost?: ModelHost;
  /** For running sequences of a model that is taken away, unless its call has a deadline; 20 s. */
  readonly drainMs?: number;
  /** The pod it runs in. */
  readonly podName?: string;
  /** What it serves; health, reflection and control are added. */
  readonly services: readonly RpcService[];
  /** host:port of its /metrics, once that is known. */
  readonly metricsAddress?: () => string | undefined;
  readonly onError: (what: string, reason: unknown) => void;
}

/** A served and registered worker process, prefill or decode. */
export interface Worker extends AsyncDisposable {
  readonly role: WorkerRole;
  readonly workerId: string;
  readonly port: number;
  /** As others reach it. */
  readonly address: string;
  readonly admission: Admission;
  readonly models: ServedModels;
  readonly modelHost: ModelHost | undefined;
  /**
   * Registers this worker and tells about its cache, from now on. A worker serves
   * without a bus too, so one that is away at start keeps nobody from working.
   */
  join(bus: Bus): void;
  /** Takes its record off the bus; a second call does nothing. */
  leave(): Promise<void>;
  addModel(model: ServedModel): void;
  /** All models are there: health turns to SERVING. */
  ready(): void;
  /** Refuses new sequences from now on and tells the mesh so. */
  startDrain(): void;
  /**
   * Lets running sequences end within `boundMs`, then ends the others in-band.
   * Answers how many of those there were.
   */
  drain(boundMs: number): Promise<number>;
}

/** How long the last in-band errors may take to be written. */
const farewellMs = 2_000;

/** What was written last needs this long to reach its reader before connections close. */
const lingerMs = 100;

export async function startWorker(options: WorkerOptions): Promise<Worker> {
  const { role, workerId, host, models, modelHost, admission, onError } =
    options;
  const { drainMs = 20_000 } = options;
  const startedAtMs = Date.now();
  const server = await startRpcServer({
    host,
    port: options.port,
    services: [...options.services, controlService(() => worker, { drainMs })],
    // Half a million ids of a long prompt fit.
    receiveBytesMax: 16 << 20,
  });
  const address = addressOf(options, server.port);
  const record = (): WorkerRecord => ({
    workerId,
    role,
    address,
    startedAtMs,
    draining: admission.draining,
    metricsAddress: options.metricsAddress?.(),
    podName: options.podName,
    memoryBytesTotal: modelHost?.budget.bytesTotal ?? 0,
    memoryBytesFree: modelHost?.budget.bytesFree ?? 0,
    models: models.records(),
  });
  let registration: Registration | undefined;
  let publisher: CachePublisher | undefined;
  const changes = models.listen({ changed: () => registration?.renew() });

  const worker: Worker = {
    role,
    workerId,
    port: server.port,
    address,
    admission,
    models,
    modelHost,
    join(bus) {
      publisher = new CachePublisher({ bus, workerId, models });
      registration = new Registration({
        bus,
        record,
        onError: (reason) => onError("register the worker", reason),
      });
    },
    async leave() {
      publisher?.[Symbol.dispose]();
      await registration?.[Symbol.asyncDispose]();
      publisher = registration = undefined;
    },
    addModel: (model) => models.add(model),
    ready() {
      models.loading = false;
      if (!admission.draining) server.setServing(true);
    },
    startDrain() {
      if (admission.draining) return;
      admission.startDrain();
      server.setServing(false);
      registration?.renew();
    },
    async drain(boundMs) {
      worker.startDrain();
      await admission.whenIdle(AbortSignal.timeout(boundMs));
      const cutCount = admission.running;
      admission.cutRunning();
      await admission.whenIdle(AbortSignal.timeout(farewellMs));
      return cutCount;
    },
    async [Symbol.asyncDispose]() {
      changes[Symbol.dispose]();
      admission.startDrain();
      admission.cutRunning();
      await worker.leave();
      await admission.whenIdle(AbortSignal.timeout(farewellMs));
      await delay(Math.max(0, lingerMs - admission.idleMs));
      await server.close(farewellMs);
    },
  };
  return worker;
}

function addressOf({ host, advertise }: WorkerOptions, port: number): string {
  if (advertise === undefined) return `${host}:${port}`;
  return /:\d+$/.test(advertise) ? advertise : `${advertise}:${port}`;
}

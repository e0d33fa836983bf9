import { randomUUID } from "node:crypto";
import { type Bus, type Clock, systemClock } from "../../lib/bus/mod.ts";
import { fetchModel } from "../../lib/model_source/mod.ts";
import { startRpcServer } from "../../lib/rpc/mod.ts";
import {
  createRegistry,
  createRequestMetrics,
  type Logger,
} from "../../lib/telemetry/mod.ts";
import type { RouterConfig } from "./config.ts";
import { Dispatcher } from "./core/dispatcher.ts";
import { Inference, ModelCatalog, type ServedModel } from "./core/mod.ts";
import { inferenceService } from "./grpc/inference_service.ts";
import { kserveService } from "./grpc/kserve_service.ts";
import { startHttpServer } from "./http/server.ts";
import { loadModel } from "./load_models.ts";
import { followModels } from "./models/follow_models.ts";
import { followMesh } from "./workers/follow_mesh.ts";
import { KvIndex } from "./workers/kv_index.ts";
import { TrafficMeter } from "./workers/traffic_meter.ts";
import { decodeLinks, embedClients } from "./workers/worker_clients.ts";
import { WorkerTable } from "./workers/worker_table.ts";

export interface RouterOptions {
  readonly config: RouterConfig;
  readonly models: readonly ServedModel[];
  readonly bus: Bus;
  readonly logger: Logger;
  readonly version?: string;
  /** Names this process in traffic reports; drawn unless set. */
  readonly routerId?: string;
  readonly clock?: Clock;
  /** In [0, 1); breaks ties between workers. */
  readonly random?: () => number;
}

export interface Router {
  readonly httpPort: number;
  readonly grpcPort: number;
  /** Resolves with the reason when it can only serve what it has: a new one has to come. */
  readonly failed: Promise<unknown>;
  /**
   * Refuses new requests, ends running ones within `drainMs`, lets slow readers have
   * what was written for some seconds, then closes both doors.
   */
  close(drainMs: number): Promise<void>;
}

/** For the last bytes of answers that have ended. */
const lingerMs = 5_000;

export function newRouterId(): string {
  return `router-${randomUUID().slice(0, 8)}`;
}

/** Builds a whole router around a bus; tests and `main.ts` do it alike. */
export async function startRouter(options: RouterOptions): Promise<Router> {
  const { config, models, bus, logger, version = "0", clock = systemClock } =
    options;
  await using undo = new AsyncDisposableStack();
  const routerId = options.routerId ?? newRouterId();
  const registry = createRegistry();

  const workers = new WorkerTable(clock);
  const clients = undo.use(decodeLinks());
  const embedders = undo.use(embedClients());
  const kvIndex = new KvIndex({
    requestDump: (workerId) =>
      bus.requestKvDump(workerId, AbortSignal.timeout(2_000)),
    hashesMax: config.kvHashesMax,
    isLive: (workerId) => workers.isLive(workerId),
  });
  const dispatcher = undo.use(
    new Dispatcher({
      workers,
      kvIndex,
      clock,
      policy: config.policy,
      sequencesMax: config.workerSequencesMax,
      prefillTokensMin: config.prefillTokensMin,
      prefillIdleTokensMin: config.prefillIdleTokensMin,
      random: options.random ?? Math.random,
      heldMax: config.heldMax,
      holdMs: config.holdMs,
      onWake: (model, held) =>
        bus.publishWake({ routerId, model, atMs: Date.now(), held }),
    }),
  );
  const traffic = new TrafficMeter({
    routerId,
    heldCount: (model) => dispatcher.heldCount(model),
    nowMs: Date.now,
  });
  const failed = Promise.withResolvers<unknown>();
  undo.use(followMesh({
    bus,
    workers,
    kvIndex,
    clients: [clients, embedders],
    traffic,
    logger,
    onFailed: failed.resolve,
  }));

  const catalog = new ModelCatalog(models);
  undo.use(followModels({
    bus,
    catalog,
    logger,
    random: options.random ?? Math.random,
    async load({ name, source }, progress) {
      const path = await fetchModel(source, {
        ...progress,
        folder: config.modelCache,
        bytesMax: config.modelBytesMax,
      });
      return await loadModel({ name, path });
    },
  }));
  const inference = new Inference({
    catalog,
    dispatcher,
    workers,
    clients,
    embedClients: embedders,
    clock,
    traffic,
    metrics: createRequestMetrics(registry),
    attemptsMax: config.attemptsMax,
    slowClientMs: config.slowClientMs,
    // While a client does not read, no event is looked at.
    stallMs: Math.max(config.stallMs, config.slowClientMs),
    requestMs: config.requestMs,
    sequencesMax: config.sequencesMax,
    captureContent: config.captureContent,
  });
  const http = await startHttpServer({
    host: config.host,
    port: config.httpPort,
    inference,
    body: { bytesMax: config.bodyBytesMax, waitMs: config.bodyMs },
    keepAliveMs: config.keepAliveMs,
    metrics: async () => ({
      contentType: registry.contentType,
      text: await registry.metrics(),
    }),
    logger,
  });
  undo.defer(() => http.close(0));
  const grpc = await startRpcServer({
    host: config.host,
    port: config.grpcPort,
    receiveBytesMax: config.bodyBytesMax,
    services: [
      inferenceService({ inference, logger }),
      kserveService({ inference, logger, version }),
    ],
  });
  undo.defer(() => grpc.close(0));
  grpc.setServing(true);

  const parts = undo.move();
  return {
    httpPort: http.port,
    grpcPort: grpc.port,
    failed: failed.promise,
    async close(drainMs) {
      grpc.setServing(false);
      await inference.drain(drainMs);
      await Promise.all([http.close(lingerMs), grpc.close(lingerMs)]);
      await parts.disposeAsync();
    },
  };
}

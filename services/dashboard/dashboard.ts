import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { type Bus, type Clock, systemClock } from "../../lib/bus/mod.ts";
import { startRpcServer } from "../../lib/rpc/mod.ts";
import type { Logger } from "../../lib/telemetry/mod.ts";
import { Collector } from "./collector.ts";
import type { DashboardConfig } from "./config.ts";
import { createApp, createOtlpApp } from "./http/app.ts";
import { LiveEvents } from "./http/live_events.ts";
import { Login } from "./http/login.ts";
import { startHttpServer } from "./http/server.ts";
import { StaticFiles } from "./http/static_files.ts";
import { TraceEvents } from "./http/trace_events.ts";
import { LiveMesh } from "./mesh/live_mesh.ts";
import { MeshEdges } from "./mesh/mesh_edges.ts";
import { ScalingDecisions } from "./mesh/scaling_decisions.ts";
import { fetchText, Scraper } from "./mesh/scraper.ts";
import { createDashboardMetrics } from "./metrics.ts";
import { traceService } from "./otlp/grpc_service.ts";
import { limits } from "./otlp/mod.ts";
import { openSqliteStore } from "./store/mod.ts";
import { Assembler, assemblerDefaults } from "./trace/assembler.ts";
import { TailSampling } from "./trace/tail_sampling.ts";
import { TraceReader } from "./trace_reader.ts";

export interface DashboardOptions {
  readonly config: DashboardConfig;
  readonly logger: Logger;
  readonly version?: string;
  readonly clock?: Clock;
  /** Milliseconds since 1970. */
  readonly nowMs?: () => number;
  /** Quiet time after which a trace counts as complete; 1.5 s unless set. */
  readonly settleMs?: number;
  /** The built pages; `web/dist` unless set. */
  readonly pagesFolder?: string;
}

export interface Dashboard extends AsyncDisposable {
  readonly port: number;
  readonly otlpPort: number | undefined;
  readonly otlpGrpcPort: number | undefined;
  readonly collector: Collector;
  readonly mesh: LiveMesh;
  /** Shows the live mesh from now on. */
  join(bus: Bus): void;
}

/** Builds the whole service; tests and `main.ts` do it alike. */
export async function startDashboard(
  options: DashboardOptions,
): Promise<Dashboard> {
  const { config, logger, version = "0", clock = systemClock } = options;
  const nowMs = options.nowMs ?? Date.now;
  await using open = new AsyncDisposableStack();
  const retention = {
    ageMs: config.retentionMs,
    bytesMax: config.retentionBytes,
  };
  const { spansPerTraceMax } = assemblerDefaults;
  mkdirSync(config.dataFolder, { recursive: true, mode: 0o700 });
  const store = open.use(
    await openSqliteStore({
      path: join(config.dataFolder, "traces.sqlite"),
      spansPerTraceMax,
    }),
  );
  const collector = open.use(
    new Collector({
      store,
      assembler: new Assembler({
        ...assemblerDefaults,
        settleMs: options.settleMs ?? assemblerDefaults.settleMs,
      }),
      sampling: new TailSampling({
        ratio: config.sampleRatio,
        tracesPerS: config.sampleTracesPerS,
        slowestPerMinute: config.slowestPerMinute,
      }),
      retention,
      captureContent: config.captureContent,
      spansPerTraceMax,
      clock,
      nowMs,
      onError: (what, err) => logger.error({ err }, `Cannot ${what}`),
      onSlow: (what, ms) => logger.warn({ ms }, `Slow to ${what}`),
    }),
  );
  const traces = new TraceReader({
    store,
    collector,
    captureContent: config.captureContent,
    retention,
    nowMs,
  });
  const { mesh, follow } = liveParts({ open, config, collector, nowMs });
  const live = open.use(new LiveEvents({ mesh, collector }));
  const traceEvents = open.use(new TraceEvents(collector));
  const registry = createDashboardMetrics({ collector, store });
  const otlp = { collector, token: config.otlpToken, nowMs };

  const http = open.use(
    await startHttpServer(
      createApp({
        traces,
        mesh,
        live,
        traceEvents,
        login: new Login({ token: config.token, nowMs }),
        files: new StaticFiles(options.pagesFolder ?? defaultPages),
        otlp,
        routerUrl: config.routerUrl,
        captureContent: config.captureContent,
        hosts: config.token === undefined ? localNames(config.host) : undefined,
        metrics: async () => ({
          contentType: registry.contentType,
          text: await registry.metrics(),
        }),
        version,
        logger,
      }),
      config,
    ),
  );
  const doors = await otlpDoors({ open, config, otlp, logger });
  const parts = open.move();
  return {
    port: http.port,
    ...doors,
    collector,
    mesh,
    join: (bus) => follow(bus, logger),
    [Symbol.asyncDispose]: () => parts.disposeAsync(),
  };
}

const defaultPages = fileURLToPath(new URL("./web/dist", import.meta.url));

/**
 * Nobody logs in to a dashboard on loopback, so it must only answer under its own names: a foreign
 * page may let its name point to 127.0.0.1 and would then count as the same origin.
 */
function localNames(host: string): ReadonlySet<string> | undefined {
  if (!/^(localhost|127\.|::1|\[::1\])/.test(host)) return undefined;
  return new Set(["localhost", "127.0.0.1", "[::1]", host]);
}

function liveParts({ open, config, collector, nowMs }: {
  readonly open: AsyncDisposableStack;
  readonly config: DashboardConfig;
  readonly collector: Collector;
  readonly nowMs: () => number;
}) {
  const edges = new MeshEdges();
  const decisions = new ScalingDecisions();
  const scraper = open.use(
    new Scraper({ everyMs: config.scrapeMs, fetchText, nowMs }),
  );
  const mesh = new LiveMesh({
    nowMs,
    edges,
    scraper,
    decisions: (model) => decisions.of(model),
  });
  open.use(collector.listen({
    settled(traceId, spans) {
      edges.add(spans, nowMs());
      decisions.add(traceId, spans);
    },
  }));
  const stop = new AbortController();
  open.defer(() => stop.abort());
  const follow = (bus: Bus, logger: Logger) => {
    mesh.follow(bus, stop.signal).catch((err) => {
      if (!stop.signal.aborted) logger.error({ err }, "Cannot follow the mesh");
    });
  };
  return { mesh, follow };
}

async function otlpDoors({ open, config, otlp, logger }: {
  readonly open: AsyncDisposableStack;
  readonly config: DashboardConfig;
  readonly otlp: Parameters<typeof traceService>[0];
  readonly logger: Logger;
}): Promise<Pick<Dashboard, "otlpPort" | "otlpGrpcPort">> {
  const { host } = config;
  const http = config.otlpPort === undefined ? undefined : open.use(
    await startHttpServer(createOtlpApp({ otlp, logger }), {
      host,
      port: config.otlpPort,
    }),
  );
  if (config.otlpGrpcPort === undefined) {
    return { otlpPort: http?.port, otlpGrpcPort: undefined };
  }
  const grpc = await startRpcServer({
    host,
    port: config.otlpGrpcPort,
    receiveBytesMax: limits.bodyBytes,
    services: [traceService(otlp)],
  });
  grpc.setServing(true);
  open.defer(() => grpc.close(1_000));
  return { otlpPort: http?.port, otlpGrpcPort: grpc.port };
}

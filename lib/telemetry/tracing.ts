import { setTimeout as delay } from "node:timers/promises";
import {
  context,
  diag,
  DiagLogLevel,
  propagation,
  ProxyTracerProvider,
  trace,
  type Tracer,
} from "@opentelemetry/api";
import { OTLPTraceExporter } from "@opentelemetry/exporter-trace-otlp-proto";
import { resourceFromAttributes } from "@opentelemetry/resources";
import {
  BatchSpanProcessor,
  NodeTracerProvider,
  ParentBasedSampler,
  TraceIdRatioBasedSampler,
} from "@opentelemetry/sdk-trace-node";
import {
  ATTR_SERVICE_INSTANCE_ID,
  ATTR_SERVICE_NAME,
  ATTR_SERVICE_NAMESPACE,
  ATTR_SERVICE_VERSION,
} from "@opentelemetry/semantic-conventions";
import { Code, MeshError } from "../errors/mesh_error.ts";

export interface TelemetryOptions {
  /** "router", "decode", …; shown as `service.name`. */
  readonly service: string;
  readonly version: string;
  /** Tells replicas apart: the worker id or pod name. */
  readonly instanceId?: string;
  /** OTEL_EXPORTER_OTLP_ENDPOINT: `http://collector:4318`. Nothing is recorded without. */
  readonly endpoint?: string;
  /** OTEL_EXPORTER_OTLP_HEADERS, parsed. */
  readonly headers?: Readonly<Record<string, string>>;
  /** Share of new traces that are recorded, 0..1; 1 unless set. Callers' decisions are kept. */
  readonly sampleRatio?: number;
  /** Longest time `shutdown()` waits for the last spans; 3,000 unless set. */
  readonly shutdownTimeoutMs?: number;
  /** Told about spans that cannot be delivered. */
  readonly onWarning?: (message: string) => void;
}

export interface Telemetry extends AsyncDisposable {
  /** False when there is no endpoint: spans are then empty and nearly free. */
  readonly isRecording: boolean;
  tracer(name?: string): Tracer;
  /** Sends what is left, for a bounded time. Further calls return the first one's promise. */
  shutdown(): Promise<void>;
}

let running = false;

/**
 * Starts tracing for the whole process: once, in `main.ts`.
 *
 * Without an endpoint the trace ids of callers still travel on to the services behind and
 * into the logs; only nothing is recorded.
 */
export function startTelemetry(options: TelemetryOptions): Telemetry {
  if (running) {
    throw new MeshError(
      Code.failedPrecondition,
      `Cannot start telemetry of "${options.service}": it runs already`,
    );
  }
  const { endpoint, service, version, onWarning } = options;
  const provider = endpoint === undefined
    ? new SilentProvider()
    : recordingProvider({ ...options, endpoint });
  running = true;
  if (onWarning) diag.setLogger(warnOnly(onWarning), DiagLogLevel.WARN);
  provider.register();

  let ended: Promise<void> | undefined;
  const shutdown = () => ended ??= stop(provider, options);
  return {
    isRecording: endpoint !== undefined,
    tracer: (name = service) => trace.getTracer(`quetzal.${name}`, version),
    shutdown,
    [Symbol.asyncDispose]: shutdown,
  };
}

/**
 * Brings the carriers and the async context, and spans that only hand on their parent's
 * ids. A recording provider that is registered and taken back would not do: tracers that
 * modules took earlier keep it.
 */
class SilentProvider extends NodeTracerProvider {
  static readonly #tracer = new ProxyTracerProvider().getTracer("silent");

  override getTracer(): Tracer {
    return SilentProvider.#tracer;
  }
}

function recordingProvider(
  options: TelemetryOptions & { endpoint: string },
): NodeTracerProvider {
  const { service, version, instanceId, endpoint, headers } = options;
  const exporter = new OTLPTraceExporter({
    url: tracesUrl(endpoint),
    headers: { ...headers },
    timeoutMillis: 5_000,
  });
  return new NodeTracerProvider({
    resource: resourceFromAttributes({
      [ATTR_SERVICE_NAME]: service,
      [ATTR_SERVICE_NAMESPACE]: "quetzal",
      [ATTR_SERVICE_VERSION]: version,
      ...(instanceId ? { [ATTR_SERVICE_INSTANCE_ID]: instanceId } : {}),
    }),
    sampler: new ParentBasedSampler({
      root: new TraceIdRatioBasedSampler(options.sampleRatio ?? 1),
    }),
    // Step events have a bound of their own, which thins evenly; this one drops the oldest.
    spanLimits: { eventCountLimit: 1_024 },
    spanProcessors: [
      new BatchSpanProcessor(exporter, {
        // OpenTelemetry's own variable, which its SDK reads where nothing is said.
        ...(process.env.OTEL_BSP_SCHEDULE_DELAY === undefined &&
          { scheduledDelayMillis: 1_000 }),
        // Spans beyond it are dropped: 8,192 spans are some 8 MB.
        maxQueueSize: 8_192,
        maxExportBatchSize: 512,
        exportTimeoutMillis: 10_000,
      }),
    ],
  });
}

/** The signal's path is appended, as OpenTelemetry's specification of the variable says. */
export function tracesUrl(endpoint: string): string {
  const scheme = URL.canParse(endpoint) && new URL(endpoint).protocol;
  if (scheme !== "http:" && scheme !== "https:") {
    throw new RangeError(
      `Cannot start telemetry: endpoint must be an http URL, is "${endpoint}"`,
    );
  }
  return `${endpoint.replace(/\/+$/, "")}/v1/traces`;
}

async function stop(
  provider: NodeTracerProvider,
  { shutdownTimeoutMs = 3_000, onWarning }: TelemetryOptions,
): Promise<void> {
  const giveUp = new AbortController();
  const timeout = delay(shutdownTimeoutMs, "late", { signal: giveUp.signal });
  try {
    const outcome = await Promise.race([provider.shutdown(), timeout]);
    if (outcome === "late") {
      onWarning?.(`Left spans behind: no answer in ${shutdownTimeoutMs} ms`);
    }
  } catch (error) {
    // The last spans are lost; a service that stops has nobody to hand this to but the log.
    onWarning?.(`Left spans behind: ${(error as Error).message}`);
  } finally {
    giveUp.abort();
    timeout.catch(() => {});
    trace.disable();
    context.disable();
    propagation.disable();
    diag.disable();
    running = false;
  }
}

function warnOnly(onWarning: (message: string) => void) {
  const say = (message: string) => onWarning(message);
  return { error: say, warn: say, info() {}, debug() {}, verbose() {} };
}

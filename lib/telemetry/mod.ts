/** Traces, logs and metrics of every service, under the same few names. */
export { extractContext, injectContext } from "./carriers.ts";
export {
  contentAttributes,
  type GenAiContent,
  GenAiOperation,
  Keys,
  providerName,
} from "./attributes.ts";
export { createLogger, type Logger, type LoggerOptions } from "./logger.ts";
export {
  createRequestMetrics,
  type ModelRequestMetrics,
  type RequestMetrics,
} from "./request_metrics.ts";
export {
  createWorkerMetrics,
  type ModelWorkerMetrics,
  type WorkerMetrics,
} from "./worker_metrics.ts";
export { createRegistry, type Registry } from "./registry.ts";
export {
  type Health,
  type MetricsServer,
  serveMetrics,
  type ServeMetricsOptions,
} from "./metrics_server.ts";
export { type OpenSpan, type SpanInit, startSpan, withSpan } from "./spans.ts";
export { createStepEvents, type StepEvents } from "./step_events.ts";
export {
  createTokenColumns,
  provenanceLetters,
  type TokenColumns,
  type TokenStep,
} from "./token_columns.ts";
export {
  startTelemetry,
  type Telemetry,
  type TelemetryOptions,
} from "./tracing.ts";

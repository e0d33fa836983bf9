import { trace } from "@opentelemetry/api";
import { type DestinationStream, type Logger, pino } from "pino";
import { prettyLine } from "./pretty_line.ts";

export type { Logger };

export interface LoggerOptions {
  readonly service: string;
  /** "info" unless set. */
  readonly level?: "trace" | "debug" | "info" | "warn" | "error" | "silent";
  /** One readable line instead of JSON, for a terminal. */
  readonly pretty?: boolean;
  /** stderr unless set; stdout belongs to what a program prints. */
  readonly write?: (line: string) => void;
}

/**
 * JSON lines with the ids of the active span, so a log line leads to its trace.
 *
 * Lines are written at once and in the process itself: the last words of a process that dies are
 * the ones needed, and worker threads of a logger work differently on every runtime.
 */
export function createLogger(options: LoggerOptions): Logger {
  const { service, level = "info", pretty = false } = options;
  const write = options.write ?? ((line) => void process.stderr.write(line));
  const destination: DestinationStream = {
    write: pretty ? (line) => write(prettyLine(line)) : write,
  };
  return pino({
    level,
    base: { service },
    timestamp: () => `,"time":"${new Date().toISOString()}"`,
    formatters: { level: (label) => ({ level: label }) },
    mixin: activeSpanIds,
    redact: {
      paths: ["authorization", "*.authorization", "apiKey", "*.apiKey"],
      censor: "[redacted]",
    },
  }, destination);
}

function activeSpanIds(): Record<string, string> {
  const active = trace.getActiveSpan()?.spanContext();
  return active ? { trace_id: active.traceId, span_id: active.spanId } : {};
}

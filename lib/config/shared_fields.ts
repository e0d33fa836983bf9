import type { ConfigReader } from "./read_config.ts";

export interface TelemetryConfig {
  /** Base of the collector; spans are recorded only when it is set. */
  readonly endpoint: string | undefined;
  readonly headers: Readonly<Record<string, string>>;
  /** Share of new traces that are recorded, 0..1. */
  readonly sampleRatio: number;
  /** Prompts and answers may enter spans. */
  readonly captureContent: boolean;
  readonly logLevel: typeof logLevels[number];
  readonly logPretty: boolean;
}

/** What a service may log, most first. */
export const logLevels = [
  "trace",
  "debug",
  "info",
  "warn",
  "error",
  "silent",
] as const;

/** The telemetry settings every service has, under OpenTelemetry's own keys where it has one. */
export function telemetryFields(reader: ConfigReader): TelemetryConfig {
  const disabled = reader.boolean("OTEL_SDK_DISABLED", false);
  const endpoint = reader.url(
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    ["http", "https"],
    undefined,
  );
  return {
    endpoint: disabled ? undefined : endpoint,
    headers: reader.pairs("OTEL_EXPORTER_OTLP_HEADERS", {}),
    sampleRatio: reader.number("OTEL_TRACES_SAMPLER_ARG", [0, 1], 1),
    captureContent: reader.boolean(
      "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT",
      false,
    ),
    logLevel: reader.oneOf("LOG_LEVEL", logLevels, "info"),
    logPretty: reader.boolean("LOG_PRETTY", false),
  };
}

/** `nats://user:password@host:4222`; keep the key among the secrets of `readConfig()`. */
export function natsUrlField(reader: ConfigReader): string {
  return reader.text("NATS_URL");
}

/** Keys whose value never belongs in an error message. */
export const sharedSecrets = ["NATS_URL", "OTEL_EXPORTER_OTLP_HEADERS"];

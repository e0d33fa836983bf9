import { type Env, logLevels, readConfig } from "../../lib/config/mod.ts";

export interface DashboardConfig {
  readonly host: string;
  /** Page, API and OTLP over HTTP. */
  readonly port: number;
  /** OTLP over HTTP alone, where the page is behind a token or a proxy; 0: no such door. */
  readonly otlpPort: number | undefined;
  /** OTLP over gRPC; absent: no such door. */
  readonly otlpGrpcPort: number | undefined;
  readonly natsUrl: string | undefined;
  /** The router's HTTP door, for the playground. */
  readonly routerUrl: string | undefined;
  /** Asked of every caller of the API; absent: nobody is asked. */
  readonly token: string | undefined;
  /** Asked of senders of spans, as `authorization: Bearer …`. */
  readonly otlpToken: string | undefined;
  readonly captureContent: boolean;
  /** Folder of the SQLite file. */
  readonly dataFolder: string;
  readonly retentionMs: number;
  readonly retentionBytes: number;
  readonly sampleRatio: number;
  readonly sampleTracesPerS: number;
  readonly slowestPerMinute: number;
  readonly scrapeMs: number;
  /** Priority of the process, 0 (as others) to 19 (only what others leave). */
  readonly nice: number;
  readonly logLevel: typeof logLevels[number];
  readonly logPretty: boolean;
}

const port = [0, 65_535] as const;
const day = 86_400_000;

/** Keys whose value never belongs in an error message. */
const secrets = [
  "QUETZAL_DASHBOARD_TOKEN",
  "QUETZAL_DASHBOARD_OTLP_TOKEN",
  "QUETZAL_NATS_URL",
];

/** Reads `process.env` or a plain record; all faults are reported together. */
export function parseConfig(env: Env): DashboardConfig {
  return readConfig(
    { what: "the dashboard", env, prefix: "QUETZAL_DASHBOARD_", secrets },
    (read) => {
      const host = read.text(
        "QUETZAL_DASHBOARD_HOST",
        env.QUETZAL_HOST?.trim() || "127.0.0.1",
      );
      const token = read.text("QUETZAL_DASHBOARD_TOKEN", undefined);
      const open = read.boolean("QUETZAL_DASHBOARD_OPEN", false);
      if (token !== undefined && token.length < tokenLengthMin) {
        read.fault(
          `QUETZAL_DASHBOARD_TOKEN is too short, expected ${tokenLengthMin} characters or more`,
        );
      }
      if (token === undefined && !open && !isLoopback(host)) {
        read.fault(
          `QUETZAL_DASHBOARD_TOKEN is missing, and ${host} is reached from other machines ` +
            "(QUETZAL_DASHBOARD_OPEN=true lets everybody in)",
        );
      }
      return {
        host,
        port: read.integer("QUETZAL_DASHBOARD_PORT", port, 8090),
        otlpPort: read.integer("QUETZAL_DASHBOARD_OTLP_PORT", port, undefined),
        otlpGrpcPort: read.integer(
          "QUETZAL_DASHBOARD_OTLP_GRPC_PORT",
          port,
          undefined,
        ),
        natsUrl: read.url("QUETZAL_NATS_URL", ["nats", "tls"], undefined),
        routerUrl: read.url(
          "QUETZAL_DASHBOARD_ROUTER_URL",
          ["http", "https"],
          undefined,
        ),
        token,
        otlpToken: read.text("QUETZAL_DASHBOARD_OTLP_TOKEN", undefined),
        captureContent: read.boolean("QUETZAL_CAPTURE_CONTENT", false),
        dataFolder: read.path("QUETZAL_DASHBOARD_DATA", ".quetzal/dashboard"),
        retentionMs: read.durationMs(
          "QUETZAL_DASHBOARD_RETENTION",
          [60_000, 366 * day],
          7 * day,
        ),
        retentionBytes: read.bytes(
          "QUETZAL_DASHBOARD_RETENTION_SIZE",
          [1 << 20, 2 ** 43],
          2 * 2 ** 30,
        ),
        sampleRatio: read.number("QUETZAL_DASHBOARD_SAMPLE", [0, 1], 1),
        sampleTracesPerS: read.number(
          "QUETZAL_DASHBOARD_SAMPLE_PER_SECOND",
          [0, 1_000_000],
          500,
        ),
        slowestPerMinute: read.integer(
          "QUETZAL_DASHBOARD_SLOWEST_PER_MINUTE",
          [0, 1_000],
          10,
        ),
        scrapeMs: read.durationMs(
          "QUETZAL_DASHBOARD_SCRAPE",
          [100, 600_000],
          2_000,
        ),
        nice: read.integer("QUETZAL_DASHBOARD_NICE", [0, 19], 0),
        logLevel: read.oneOf("QUETZAL_LOG_LEVEL", logLevels, "info"),
        logPretty: read.boolean("QUETZAL_LOG_PRETTY", false),
      };
    },
  );
}

/** Guessed ten times a second for a year, 16 letters are safe. */
const tokenLengthMin = 16;

function isLoopback(host: string): boolean {
  return /^(localhost|127(\.\d{1,3}){3}|::1|\[::1\])$/.test(host);
}

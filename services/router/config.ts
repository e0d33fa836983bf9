import { type Env, logLevels, readConfig } from "../../lib/config/mod.ts";
import { modelCacheDefault } from "../../lib/model_source/mod.ts";
import { type PolicyName, policyNames } from "./policies/mod.ts";

export interface RouterConfig {
  /** Interface of both doors. */
  readonly host: string;
  readonly httpPort: number;
  readonly grpcPort: number;
  readonly natsUrl: string;
  /** Always known; others come by the bucket `models`. */
  readonly models: readonly ModelFile[];
  /** Where downloaded models are kept; shared by the processes of a machine. */
  readonly modelCache: string;
  /** Largest file that is downloaded. */
  readonly modelBytesMax: number;
  readonly policy: PolicyName;
  /** Requests held per model; the next one gets 429. */
  readonly heldMax: number;
  /** How long a request waits for a worker. */
  readonly holdMs: number;
  /** Life of a request that has no deadline of its own. */
  readonly requestMs: number;
  /** Sequences running or held in this router. */
  readonly sequencesMax: number;
  /** Sequences this router puts on one worker. */
  readonly workerSequencesMax: number;
  /** Uncached prompt tokens from which a prefill worker is asked. */
  readonly prefillTokensMin: number;
  readonly prefillIdleTokensMin: number;
  /** Decode calls per sequence. */
  readonly attemptsMax: number;
  /** A client that reads nothing for this long loses its sequence. */
  readonly slowClientMs: number;
  /** A sequence that has begun and brings nothing for this long is replayed elsewhere. */
  readonly stallMs: number;
  readonly bodyBytesMax: number;
  readonly bodyMs: number;
  readonly keepAliveMs: number;
  /** KV blocks remembered per worker and model. */
  readonly kvHashesMax: number;
  /** Time running requests get when the router is told to stop. */
  readonly drainMs: number;
  readonly logLevel: (typeof logLevels)[number];
  /** Readable lines instead of JSON. */
  readonly logPretty: boolean;
  /** Where spans go; none are recorded without. */
  readonly otlpEndpoint: string | undefined;
  /** Share of new traces that are recorded, 0..1. */
  readonly sampleRatio: number;
  /** Prompts and answers may enter spans. */
  readonly captureContent: boolean;
}

export interface ModelFile {
  readonly name: string;
  readonly path: string;
}

const port = [0, 65_535] as const;
const second = 1_000;
const hour = 3_600_000;

/** Reads `process.env` or a plain record; all faults are reported together. */
export function parseConfig(env: Env): RouterConfig {
  return readConfig(
    { what: "the router", env, prefix: "QUETZAL_ROUTER_" },
    (read) => {
      const models = parseModels(read.list("QUETZAL_MODELS", []));
      for (const fault of models.faults) read.fault(fault);
      return {
        host: read.text("QUETZAL_HOST", "127.0.0.1"),
        httpPort: read.integer("QUETZAL_HTTP_PORT", port, 8080),
        grpcPort: read.integer("QUETZAL_GRPC_PORT", port, 50_051),
        natsUrl: read.url(
          "QUETZAL_NATS_URL",
          ["nats", "tls"],
          "nats://127.0.0.1:4222",
        ),
        models: models.files,
        modelCache: read.path("QUETZAL_MODEL_CACHE", modelCacheDefault),
        modelBytesMax: read.bytes(
          "QUETZAL_MODEL_BYTES_MAX",
          [1, 2 ** 50],
          2 ** 41,
        ),
        policy: read.oneOf(
          "QUETZAL_ROUTER_POLICY",
          policyNames,
          "prefix-affinity",
        ),
        heldMax: read.integer("QUETZAL_ROUTER_HELD_MAX", [1, 1_000_000], 512),
        holdMs: read.durationMs("QUETZAL_ROUTER_HOLD", [1, hour], 30 * second),
        requestMs: read.durationMs(
          "QUETZAL_ROUTER_REQUEST",
          [1, 24 * hour],
          600 * second,
        ),
        sequencesMax: read.integer("QUETZAL_ROUTER_SEQUENCES_MAX", [
          1,
          1_000_000,
        ], 4_096),
        workerSequencesMax: read.integer(
          "QUETZAL_ROUTER_WORKER_SEQUENCES_MAX",
          [1, 100_000],
          256,
        ),
        prefillTokensMin: read.integer("QUETZAL_ROUTER_PREFILL_TOKENS_MIN", [
          0,
          2 ** 31 - 1,
        ], 64),
        prefillIdleTokensMin: read.integer(
          "QUETZAL_ROUTER_PREFILL_IDLE_TOKENS_MIN",
          [0, 2 ** 31 - 1],
          1_024,
        ),
        attemptsMax: read.integer("QUETZAL_ROUTER_ATTEMPTS_MAX", [1, 100], 8),
        slowClientMs: read.durationMs(
          "QUETZAL_ROUTER_SLOW_CLIENT",
          [1, hour],
          10 * second,
        ),
        stallMs: read.durationMs(
          "QUETZAL_ROUTER_STALL",
          [100, 24 * hour],
          60 * second,
        ),
        bodyBytesMax: read.bytes(
          "QUETZAL_ROUTER_BODY_MAX",
          [1, 2 ** 30],
          8 << 20,
        ),
        bodyMs: read.durationMs(
          "QUETZAL_ROUTER_BODY_WAIT",
          [1, hour],
          30 * second,
        ),
        keepAliveMs: read.durationMs(
          "QUETZAL_ROUTER_KEEP_ALIVE",
          [1, hour],
          10 * second,
        ),
        kvHashesMax: read.integer("QUETZAL_ROUTER_KV_HASHES_MAX", [
          1,
          10_000_000,
        ], 200_000),
        drainMs: read.durationMs(
          "QUETZAL_ROUTER_DRAIN",
          [0, hour],
          30 * second,
        ),
        logLevel: read.oneOf("QUETZAL_LOG_LEVEL", logLevels, "info"),
        logPretty: read.boolean("QUETZAL_LOG_PRETTY", false),
        otlpEndpoint: read.url(
          "OTEL_EXPORTER_OTLP_ENDPOINT",
          ["http", "https"],
          undefined,
        ),
        sampleRatio: read.number("OTEL_TRACES_SAMPLER_ARG", [0, 1], 1),
        captureContent: read.boolean("QUETZAL_CAPTURE_CONTENT", false),
      };
    },
  );
}

/** `name=path,name2=path2` */
function parseModels(
  entries: readonly string[],
): { files: ModelFile[]; faults: string[] } {
  const files: ModelFile[] = [];
  const faults: string[] = [];
  for (const entry of entries) {
    const at = entry.indexOf("=");
    const name = entry.slice(0, Math.max(0, at));
    const path = entry.slice(at + 1);
    if (at < 1 || path === "") {
      faults.push(`QUETZAL_MODELS has "${entry}", expected name=path`);
    } else if (files.some((file) => file.name === name)) {
      faults.push(`QUETZAL_MODELS names "${name}" twice`);
    } else {
      files.push({ name, path });
    }
  }
  return { files, faults };
}

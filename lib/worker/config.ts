/** The settings that prefill and decode workers share. */
import { availableParallelism, hostname } from "node:os";
import type { WorkerRole } from "../bus/types.ts";
import { type ConfigReader, logLevels } from "../config/mod.ts";
import { type Backend, backends } from "../engine/backend.ts";
import { type Isa, isas, type KvType, kvTypes } from "../engine/native.ts";
import { modelCacheDefault } from "../model_source/cache_folder.ts";

export interface WorkerConfig {
  readonly workerId: string;
  readonly host: string;
  readonly port: number;
  readonly advertise: string | undefined;
  readonly natsUrl: string;
  /** Loaded at the start; more may come by `WorkerControl.Load`. */
  readonly models: readonly ModelFile[];
  /** Weights and KV of all models together; default: by where they lie. */
  readonly modelMemoryBytes: number | undefined;
  /** Where downloaded models are kept; shared by the processes of a machine. */
  readonly modelCache: string;
  /** Largest file that is downloaded. */
  readonly modelBytesMax: number;
  /** The pod it runs in, for the controller. */
  readonly podName: string | undefined;
  readonly engine: EngineConfig;
  /** 0 takes any free port. */
  readonly metricsPort: number;
  readonly otlpEndpoint: string | undefined;
  readonly logLevel: typeof logLevels[number];
  readonly drainMs: number;
  /** Where workers of a host share memory for KV; `undefined`: nowhere. */
  readonly kvSharedFolder: string | undefined;
}

/** One entry of `QUETZAL_MODELS`. */
export interface ModelFile {
  readonly name: string;
  readonly path: string;
}

/** The same for every model of the process; absent values are the engine's own. */
export interface EngineConfig {
  readonly threads: number;
  readonly isa: Isa | undefined;
  /** What models run on; `auto` takes a GPU where one is there. */
  readonly backend: Backend;
  readonly kvBlocks: number | undefined;
  /** How KV is stored; blocks only move between workers of one type. */
  readonly kvType: KvType;
  readonly batchTokens: number | undefined;
  readonly runningMax: number | undefined;
  readonly waitingMax: number | undefined;
}

export function readWorkerConfig(
  reader: ConfigReader,
  { role, portDefault }: { role: WorkerRole; portDefault: number },
): WorkerConfig {
  const portKey = `QUETZAL_${role.toUpperCase()}_PORT`;
  return {
    workerId: readWorkerId(reader, role),
    host: reader.text("QUETZAL_HOST", "127.0.0.1"),
    port: reader.integer(portKey, [0, 65_535], portDefault),
    advertise: reader.text("QUETZAL_ADVERTISE", undefined),
    natsUrl: reader.url(
      "QUETZAL_NATS_URL",
      ["nats", "tls"],
      "nats://127.0.0.1:4222",
    ),
    models: readModels(reader),
    modelMemoryBytes: reader.bytes(
      "QUETZAL_MODEL_MEMORY_BYTES",
      [1, 2 ** 50],
      undefined,
    ),
    modelCache: reader.path("QUETZAL_MODEL_CACHE", modelCacheDefault),
    modelBytesMax: reader.bytes(
      "QUETZAL_MODEL_BYTES_MAX",
      [1, 2 ** 50],
      2 ** 41,
    ),
    podName: reader.text("QUETZAL_POD_NAME", undefined),
    engine: {
      threads: reader.integer(
        "QUETZAL_THREADS",
        [1, 256],
        availableParallelism(),
      ),
      isa: reader.oneOf("QUETZAL_ISA", isas, undefined),
      backend: reader.oneOf("QUETZAL_BACKEND", backends, "auto"),
      kvBlocks: reader.integer("QUETZAL_KV_BLOCKS", [1, 2 ** 24], undefined),
      kvType: reader.oneOf("QUETZAL_KV_TYPE", kvTypes, "f16"),
      batchTokens: reader.integer(
        "QUETZAL_BATCH_TOKENS",
        [1, 65_536],
        undefined,
      ),
      runningMax: reader.integer("QUETZAL_RUNNING_MAX", [1, 4_096], undefined),
      waitingMax: reader.integer("QUETZAL_WAITING_MAX", [1, 65_536], undefined),
    },
    metricsPort: reader.integer("QUETZAL_METRICS_PORT", [0, 65_535], 0),
    otlpEndpoint: reader.url(
      "OTEL_EXPORTER_OTLP_ENDPOINT",
      ["http", "https"],
      undefined,
    ),
    logLevel: reader.oneOf("QUETZAL_LOG_LEVEL", logLevels, "info"),
    kvSharedFolder: readSharedFolder(reader),
    drainMs: reader.durationMs("QUETZAL_DRAIN_TIMEOUT", [0, 3_600_000], 20_000),
  };
}

/** "none" turns it off. */
function readSharedFolder(reader: ConfigReader): string | undefined {
  const folder = reader.path("QUETZAL_KV_SHARED_FOLDER", "/dev/shm");
  return folder === "none" ? undefined : folder;
}

/** Ids end up in NATS subjects and keys, so only their plain characters pass. */
function readWorkerId(reader: ConfigReader, role: WorkerRole): string {
  const fallback = `${role}-${hostname()}-${process.pid}`.replace(
    /[^\w-]/g,
    "-",
  );
  const workerId = reader.text("QUETZAL_WORKER_ID", fallback);
  if (!/^[\w-]{1,128}$/.test(workerId)) {
    reader.fault(
      `QUETZAL_WORKER_ID is "${workerId}", expected letters, digits, "-" and "_", up to 128`,
    );
  }
  return workerId;
}

/** `name=path,name2=path2` */
function readModels(reader: ConfigReader): readonly ModelFile[] {
  const models: ModelFile[] = [];
  for (const entry of reader.list("QUETZAL_MODELS", [])) {
    const at = entry.indexOf("=");
    const [name, path] = [
      entry.slice(0, at).trim(),
      entry.slice(at + 1).trim(),
    ];
    if (at < 1 || name === "" || path === "") {
      reader.fault(`QUETZAL_MODELS has "${entry}", expected name=path`);
    } else if (models.some((model) => model.name === name)) {
      reader.fault(`QUETZAL_MODELS names "${name}" twice`);
    } else {
      models.push({ name, path });
    }
  }
  return models;
}

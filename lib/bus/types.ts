/**
 * What the mesh shares over NATS. Embedded mode and unit tests use the
 * in-process bus of the same interface.
 */

export type WorkerRole = "prefill" | "decode";

/** Entry of the KV bucket `workers` under key `<role>.<workerId>`; lives 10 s unless renewed. */
export interface WorkerRecord {
  readonly workerId: string;
  readonly role: WorkerRole;
  /** host:port of its gRPC server. */
  readonly address: string;
  readonly startedAtMs: number;
  readonly draining: boolean;
  /** host:port of its /metrics; absent from workers that do not say. */
  readonly metricsAddress?: string;
  /** The pod it runs in; absent outside Kubernetes. */
  readonly podName?: string;
  /** What models may take together; 0 from workers that do not say. */
  readonly memoryBytesTotal: number;
  /** That, less what its models take now. */
  readonly memoryBytesFree: number;
  /** Empty is valid: such a worker waits for `WorkerControl.Load`. */
  readonly models: readonly WorkerModel[];
}

/** Only a running model takes sequences. */
export type WorkerModelState = typeof workerModelStates[number];

export const workerModelStates = [
  "loading",
  "running",
  "asleep",
  "waking",
  "failed",
  "unloading",
] as const;

export interface WorkerModel {
  readonly model: string;
  readonly state: WorkerModelState;
  /** Empty until the model was loaded once; so are the numbers below 0. */
  readonly fingerprint: string;
  readonly contextLength: number;
  readonly blockTokens: number;
  readonly blocksTotal: number;
  readonly blocksFree: number;
  readonly running: number;
  readonly waiting: number;
  /** What it takes of the worker's memory while it runs; asleep it takes nothing. */
  readonly weightBytes: number;
  readonly kvBytes: number;
  /**
   * Speeds, not throughputs: tokens per second of step time spent on that kind of work, of
   * late. They stay while nothing runs; 0 before any work. Decode counts all sequences of
   * its batches together.
   */
  readonly prefillTokensPerS: number;
  readonly decodeTokensPerS: number;
}

/** `mesh.kv.<model>.<workerId>`; `number` counts up by one, a gap asks for a dump. */
export interface KvEvent {
  readonly workerId: string;
  readonly model: string;
  readonly number: number;
  /** Chained hashes (hex) of blocks that became reusable, or are gone. */
  readonly stored: readonly string[];
  readonly removed: readonly string[];
}

/** Answer to a request on `mesh.kvdump.<workerId>`: everything held as of `number`. */
export interface KvDump {
  readonly workerId: string;
  readonly models: readonly {
    readonly model: string;
    readonly number: number;
    readonly hashes: readonly string[];
  }[];
}

/** `mesh.traffic.<model>`, from each router once a second while there is any. */
export interface TrafficReport {
  readonly routerId: string;
  readonly model: string;
  readonly atMs: number;
  readonly windowMs: number;
  readonly arrivals: number;
  readonly completions: number;
  readonly failures: number;
  readonly held: number;
  readonly running: number;
  readonly promptTokens: number;
  readonly generatedTokens: number;
  /**
   * When and with how many prompt tokens requests arrived, the first ones of a busy window:
   * what a replay needs that the sums have lost. Absent from routers that do not say.
   */
  readonly samples?: readonly ArrivalSample[];
}

export interface ArrivalSample {
  /** Since the window began. */
  readonly offsetMs: number;
  readonly promptTokens: number;
}

/** Samples in one report: 2 KiB at most. */
export const arrivalSamplesMax = 64;

/** `mesh.wake.<model>`: requests are held and no worker serves the model. */
export interface WakeMessage {
  readonly routerId: string;
  readonly model: string;
  readonly atMs: number;
  readonly held: number;
}

/**
 * Entry of the KV bucket `models`, whose key is the model's name: a model that shall be
 * known whether or not a worker has it. The controller writes it, routers read it.
 */
export interface ModelEntry {
  readonly model: string;
  /** One of path and url; a url has a checksum. */
  readonly source: {
    readonly path?: string;
    readonly url?: string;
    readonly sha256?: string;
  };
  /** Other names that requests may use. */
  readonly aliases?: readonly string[];
  /** The model that drafts for it. */
  readonly draft?: string;
  /** First token wanted within, ms. */
  readonly ttftTargetMs?: number;
}

export type ModelChange =
  | { readonly kind: "put"; readonly entry: ModelEntry }
  | { readonly kind: "gone"; readonly model: string };

export type WorkerChange =
  | { kind: "put"; record: WorkerRecord }
  | { kind: "gone"; role: WorkerRole; workerId: string };

/** Everything survives a NATS restart: publishes are lost, watches and registrations come back. */
export interface Bus extends AsyncDisposable {
  /** Creates or renews; call at least every 3 s. */
  putWorker(record: WorkerRecord): Promise<void>;
  removeWorker(role: WorkerRole, workerId: string): Promise<void>;
  /** All present workers first, then each change, until aborted. Expiry of the TTL is a `gone`. */
  watchWorkers(signal: AbortSignal): AsyncIterable<WorkerChange>;

  /** Creates or replaces; rejects with `unavailable` when it could not be written. */
  putModel(entry: ModelEntry): Promise<void>;
  removeModel(model: string): Promise<void>;
  /** All models in the bucket first, then each change, until aborted. */
  watchModels(signal: AbortSignal): AsyncIterable<ModelChange>;

  publishKv(event: KvEvent): void;
  subscribeKv(signal: AbortSignal): AsyncIterable<KvEvent>;
  serveKvDump(workerId: string, dump: () => KvDump): Disposable;
  requestKvDump(
    workerId: string,
    signal: AbortSignal,
  ): Promise<KvDump | undefined>;

  publishTraffic(report: TrafficReport): void;
  subscribeTraffic(signal: AbortSignal): AsyncIterable<TrafficReport>;
  publishWake(message: WakeMessage): void;
  subscribeWake(signal: AbortSignal): AsyncIterable<WakeMessage>;

  /** false while disconnected. */
  readonly connected: boolean;
}

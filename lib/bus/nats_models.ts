import { StorageType } from "@nats-io/jetstream";
import { type KV, Kvm } from "@nats-io/kv";
import type {
  Msg,
  NatsConnection,
  Subscription,
} from "@nats-io/transport-node";
import { Code, MeshError } from "../errors/mesh_error.ts";
import type { Clock } from "./clock.ts";
import { decodeMessage, encodeMessage, schemas } from "./messages.ts";
import { ModelChanges, ModelTable } from "./model_changes.ts";
import { listBucket, type ListedEntry } from "./nats_bucket.ts";
import { subscribe } from "./nats_subscribe.ts";
import { modelsBucket, modelsPrefix } from "./subjects.ts";
import { decodeToken, encodeToken } from "./tokens.ts";
import type { ModelEntry } from "./types.ts";
import type { Warnings } from "./warnings.ts";

export interface NatsModelsOptions {
  readonly nc: NatsConnection;
  readonly isConnected: () => boolean;
  readonly replicas: number;
}

/** How long one write may wait for its acknowledgement. */
const writeTimeoutMs = 2_000;

/**
 * The bucket `models`: what the mesh shall serve, on disk.
 *
 * Nothing here is written again after an outage: whoever wrote an entry may have ceased to
 * be the one who decides. A write that did not arrive rejects, and its caller tries again.
 */
export class NatsModels {
  readonly #options: NatsModelsOptions;
  #bucket: KV | undefined;

  constructor(options: NatsModelsOptions) {
    this.#options = options;
  }

  put(entry: ModelEntry): Promise<void> {
    return this.#write(entry.model, async (bucket, key) => {
      await bucket.put(key, encodeMessage(entry), { timeout: writeTimeoutMs });
    });
  }

  remove(model: string): Promise<void> {
    return this.#write(model, async (bucket, key) => {
      await bucket.delete(key);
    });
  }

  async list(): Promise<ListedEntry[]> {
    const bucket = this.#bucket ?? await this.#ensureBucket();
    return await listBucket(this.#options.nc, bucket, modelsBucket);
  }

  async #ensureBucket(): Promise<KV> {
    const { nc, replicas } = this.#options;
    this.#bucket = await new Kvm(nc).create(modelsBucket, {
      history: 1,
      replicas,
      storage: StorageType.File,
      description: "Models of the mesh, written by the controller",
    });
    return this.#bucket;
  }

  async #write(
    model: string,
    apply: (bucket: KV, key: string) => Promise<void>,
  ): Promise<void> {
    const key = encodeToken(model);
    try {
      if (!this.#options.isConnected()) throw new Error("NATS is away");
      await apply(this.#bucket ?? await this.#ensureBucket(), key)
        // The bucket may have been lost or deleted under us.
        .catch(async () => apply(await this.#ensureBucket(), key));
    } catch (cause) {
      throw new MeshError(
        Code.unavailable,
        `Cannot write model "${model}": needs NATS with JetStream, found: ${
          (cause as Error).message
        }`,
        { cause },
      );
    }
  }
}

export interface NatsModelWatchOptions {
  readonly nc: NatsConnection;
  readonly models: NatsModels;
  readonly warnings: Warnings;
  readonly clock: Clock;
  /** How long a model that a reconnect did not find may take to be written again. */
  readonly graceMs: number;
}

/**
 * One reader's view of the bucket, as `NatsWatch` has of the workers: it listens to the
 * bucket's subjects and reads the whole bucket at the start and after each reconnect.
 */
export class NatsModelWatch {
  readonly changes: ModelChanges;
  readonly #options: NatsModelWatchOptions;
  readonly #table: ModelTable;
  readonly #subscription: Subscription | undefined;
  readonly #timers = new Set<Disposable>();
  /** Models heard of since each of the timers was set. */
  readonly #returned = new Set<Set<string>>();
  /** Models heard of since the running read began: they are newer than what it finds. */
  #heard: Set<string> | undefined;

  constructor(options: NatsModelWatchOptions, onEnd: () => void) {
    this.#options = options;
    this.changes = new ModelChanges(() => {
      this.#subscription?.unsubscribe();
      for (const timer of this.#timers) timer[Symbol.dispose]();
      onEnd();
    });
    this.#table = new ModelTable((change) => this.changes.push(change));
    this.#subscription = subscribe(
      options.nc,
      `${modelsPrefix}>`,
      (error, message) => this.#hear(error, message),
    );
  }

  async read(): Promise<void> {
    const heard = this.#heard = new Set<string>();
    const listed = await this.#options.models.list();
    const present = new Set<string>();
    for (const { key, data } of listed) {
      const model = decodeToken(key);
      if (model === undefined || heard.has(model)) continue;
      present.add(model);
      this.#take(model, data);
    }
    if (this.#heard === heard) this.#heard = undefined;
    this.#dropAbsent(present.union(heard));
  }

  /** A server that lost its disk lost every model at once: they have a while to return. */
  #dropAbsent(present: ReadonlySet<string>): void {
    const { clock, graceMs } = this.#options;
    const absent = this.#table.entries.filter(({ model }) =>
      !present.has(model)
    );
    if (absent.length === 0) return;
    const back = new Set<string>();
    const timer = clock.setTimer(graceMs, () => {
      this.#timers.delete(timer);
      this.#returned.delete(back);
      for (const { model } of absent) {
        if (!back.has(model)) this.#table.remove(model);
      }
    });
    this.#timers.add(timer);
    this.#returned.add(back);
  }

  #hear(error: Error | null, message: Msg): void {
    const { warnings } = this.#options;
    if (error) return warnings.add("connection", "No model changes", error);
    const model = decodeToken(message.subject.slice(modelsPrefix.length));
    if (model === undefined) return;
    this.#heard?.add(model);
    for (const back of this.#returned) back.add(model);
    const operation = message.headers?.get("KV-Operation");
    if (operation === "DEL" || operation === "PURGE") {
      return this.#table.remove(model);
    }
    this.#take(model, message.data);
  }

  #take(model: string, data: Uint8Array): void {
    const decoded = decodeMessage(schemas.model, data);
    const fault = decoded.kind === "malformed"
      ? decoded.reason
      : decoded.message.model === model
      ? undefined
      : `its entry is of "${decoded.message.model}"`;
    if (fault !== undefined || decoded.kind === "malformed") {
      this.#options.warnings.add(
        "malformed",
        `Left out model "${model}": ${fault}`,
      );
      return;
    }
    this.#table.put(decoded.message);
  }
}

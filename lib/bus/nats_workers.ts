import { StorageType } from "@nats-io/jetstream";
import { type KV, Kvm } from "@nats-io/kv";
import type { NatsConnection } from "@nats-io/transport-node";
import { encodeMessage } from "./messages.ts";
import { listBucket } from "./nats_bucket.ts";
import { workerKey, workersBucket } from "./subjects.ts";
import type { WorkerRecord, WorkerRole } from "./types.ts";
import type { Warnings } from "./warnings.ts";

export interface WorkersOptions {
  readonly nc: NatsConnection;
  readonly isConnected: () => boolean;
  readonly ttlMs: number;
  readonly replicas: number;
  readonly warnings: Warnings;
}

/** How long one write may wait for its acknowledgement. */
const writeTimeoutMs = 2_000;

/**
 * The bucket `workers` and the records this process keeps in it.
 *
 * It lives in the server's memory: its records are renewed every few seconds and written again
 * after a reconnect, so a disk would only make the renewals slower.
 */
export class NatsWorkers {
  readonly #options: WorkersOptions;
  readonly #own = new Map<string, WorkerRecord>();
  /** The write of a key that is under way, and the one that follows it. */
  readonly #writes = new Map<string, KeyWrites>();
  #bucket: KV | undefined;

  constructor(options: WorkersOptions) {
    this.#options = options;
  }

  /** Finds or creates the bucket. */
  async ensureBucket(): Promise<KV> {
    const { nc, ttlMs, replicas } = this.#options;
    this.#bucket = await new Kvm(nc).create(workersBucket, {
      ttl: ttlMs,
      history: 1,
      replicas,
      storage: StorageType.Memory,
      description: "Workers of the mesh; a record not renewed is gone",
    });
    return this.#bucket;
  }

  put(record: WorkerRecord): Promise<void> {
    const key = workerKey(record.role, record.workerId);
    this.#own.set(key, record);
    return this.#enqueue(key);
  }

  remove(role: WorkerRole, workerId: string): Promise<void> {
    const key = workerKey(role, workerId);
    this.#own.delete(key);
    return this.#enqueue(key);
  }

  /** After a reconnect: the server may have lost everything. */
  async writeAgain(): Promise<void> {
    await this.ensureBucket();
    await Promise.all([...this.#own.keys()].map((key) => this.#enqueue(key)));
  }

  /** All records there are, with their age by the server's clock. */
  async list(): Promise<ListedRecord[]> {
    const bucket = this.#bucket ?? await this.ensureBucket();
    const found = await listBucket(this.#options.nc, bucket, workersBucket);
    // Nobody's clock but the server's counts: the newest record is at least 0 ms old.
    const newestMs = Math.max(...found.map((entry) => entry.createdMs));
    return found.map(({ key, data, createdMs }) => ({
      key,
      data,
      ageMs: newestMs - createdMs,
    }));
  }

  /**
   * Writes of one key keep their order. One write waits at most, for it takes the newest state
   * when its turn comes: renewals do not pile up behind a server that does not answer.
   */
  #enqueue(key: string): Promise<void> {
    const writes = this.#writes.get(key);
    if (!writes) return this.#begin(key);
    return writes.next ??= writes.current.then(() => this.#begin(key));
  }

  #begin(key: string): Promise<void> {
    const current = this.#write(key).finally(() => {
      if (!this.#writes.get(key)?.next) this.#writes.delete(key);
    });
    this.#writes.set(key, { current, next: undefined });
    return current;
  }

  /** Brings the bucket to what we want now, which may be newer than what was asked. */
  async #write(key: string): Promise<void> {
    if (!this.#options.isConnected()) return;
    try {
      await this.#apply(key, this.#bucket ?? await this.ensureBucket());
    } catch {
      await this.#retry(key);
    }
  }

  /** The bucket may have been lost or deleted under us; the second failure is reported. */
  async #retry(key: string): Promise<void> {
    try {
      await this.#apply(key, await this.ensureBucket());
    } catch (error) {
      this.#options.warnings.add(
        "registration",
        `Could not write worker ${key}`,
        error,
      );
    }
  }

  async #apply(key: string, bucket: KV): Promise<void> {
    const record = this.#own.get(key);
    if (!record) return await bucket.delete(key);
    await bucket.put(key, encodeMessage(record), { timeout: writeTimeoutMs });
  }
}

interface KeyWrites {
  readonly current: Promise<void>;
  next: Promise<void> | undefined;
}

export interface ListedRecord {
  readonly key: string;
  readonly data: Uint8Array;
  readonly ageMs: number;
}

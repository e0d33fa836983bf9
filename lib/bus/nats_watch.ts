import type {
  Msg,
  NatsConnection,
  Subscription,
} from "@nats-io/transport-node";
import type { Clock } from "./clock.ts";
import { decodeMessage, schemas } from "./messages.ts";
import { subscribe } from "./nats_subscribe.ts";
import type { NatsWorkers } from "./nats_workers.ts";
import { parseWorkerKey, workerKey, workersPrefix } from "./subjects.ts";
import type { Warnings } from "./warnings.ts";
import { WorkerChanges } from "./worker_changes.ts";
import { WorkerTable } from "./worker_table.ts";

export interface WatchOptions {
  readonly nc: NatsConnection;
  readonly workers: NatsWorkers;
  readonly warnings: Warnings;
  readonly clock: Clock;
  readonly ttlMs: number;
  readonly graceMs: number;
}

/**
 * One reader's view of the bucket `workers`.
 *
 * It listens to the subjects the bucket stores (`$KV.workers.>`) and reads the bucket once at the
 * start and after each reconnect. A plain subscription comes back by itself after a reconnect,
 * leaves no consumer behind on the server, and keeps working while JetStream does not.
 */
export class NatsWatch {
  readonly changes: WorkerChanges;
  readonly #options: WatchOptions;
  readonly #table: WorkerTable;
  readonly #subscription: Subscription | undefined;
  /** Keys heard of since the running read began: they are newer than what it finds. */
  #heard: Set<string> | undefined;

  constructor(options: WatchOptions, onEnd: () => void) {
    this.#options = options;
    this.changes = new WorkerChanges(() => {
      this.#subscription?.unsubscribe();
      this.#table[Symbol.dispose]();
      onEnd();
    });
    this.#table = new WorkerTable({
      ...options,
      onChange: (change) => this.changes.push(change),
    });
    this.#subscription = subscribe(
      options.nc,
      `${workersPrefix}>`,
      (error, message) => this.#hear(error, message),
    );
  }

  pause(): void {
    this.#table.pause();
  }

  resume(): void {
    this.#table.resume();
  }

  /** Reads the bucket; workers that are no longer in it have the grace to come back. */
  async read(): Promise<void> {
    const heard = this.#heard = new Set<string>();
    const listed = await this.#options.workers.list();
    const present = new Set<string>();
    for (const { key, data, ageMs } of listed) {
      // A bucket someone else made may keep records for longer than we trust them.
      if (heard.has(key) || ageMs >= this.#options.ttlMs) continue;
      present.add(key);
      this.#take(key, data, ageMs);
    }
    this.#table.shorten(new Set([...present, ...heard]));
    if (this.#heard === heard) this.#heard = undefined;
  }

  #hear(error: Error | null, message: Msg): void {
    const { warnings } = this.#options;
    if (error) return warnings.add("connection", "No worker changes", error);
    const key = message.subject.slice(workersPrefix.length);
    this.#heard?.add(key);
    const operation = message.headers?.get("KV-Operation");
    if (operation !== "DEL" && operation !== "PURGE") {
      return this.#take(key, message.data, 0);
    }
    const worker = parseWorkerKey(key);
    if (worker) this.#table.remove(worker.role, worker.workerId);
  }

  #take(key: string, data: Uint8Array, ageMs: number): void {
    const decoded = decodeMessage(schemas.worker, data);
    const { warnings } = this.#options;
    if (decoded.kind === "malformed") {
      return warnings.add(
        "malformed",
        `Left out worker ${key}: ${decoded.reason}`,
      );
    }
    const { message: record } = decoded;
    const ownKey = workerKey(record.role, record.workerId);
    if (ownKey !== key) {
      return warnings.add(
        "malformed",
        `Left out worker ${key}: its record belongs under ${ownKey}`,
      );
    }
    this.#table.put(record, ageMs);
  }
}

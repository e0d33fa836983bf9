import type { z } from "zod";
import { BoundedQueue } from "./bounded_queue.ts";
import { type Clock, systemClock } from "./clock.ts";
import { decodeMessage, encodeMessage, schemas } from "./messages.ts";
import type { BusOptions, MeshBus } from "./options.ts";
import { queueMaxDefault, workerTtlMsDefault } from "./options.ts";
import { OpenStreams } from "./open_streams.ts";
import { requireValid } from "./require_valid.ts";
import { hasActiveSpan, injectTrace, rememberTrace } from "./trace_context.ts";
import { ModelChanges, ModelTable } from "./model_changes.ts";
import type { KvDump, ModelChange, WorkerChange } from "./types.ts";
import { Warnings } from "./warnings.ts";
import { WorkerChanges } from "./worker_changes.ts";
import { WorkerTable } from "./worker_table.ts";

export interface LocalBusOptions extends BusOptions {
  readonly clock?: Clock;
}

/**
 * The mesh inside one process: all services share this one object.
 *
 * Messages pass through the same encoding and checks as over NATS, so that
 * what works here works there, and nobody holds another's object.
 */
export function createLocalBus(options: LocalBusOptions = {}): MeshBus {
  const { clock = systemClock, queueMax = queueMaxDefault } = options;
  const ttlMs = options.workerTtlMs ?? workerTtlMsDefault;
  const warnings = new Warnings(options.onWarning);
  const watchers = new Set<WorkerChanges>();
  const dumps = new Map<string, () => KvDump>();
  const streams = new OpenStreams();
  let connected = true;

  const table = new WorkerTable({
    clock,
    ttlMs,
    graceMs: ttlMs,
    onChange: (change) => watchers.forEach((watcher) => watcher.push(change)),
  });

  const modelWatchers = new Set<ModelChanges>();
  const modelTable = new ModelTable((change) =>
    modelWatchers.forEach((watcher) => watcher.push(change))
  );

  function topic<T extends object>(label: string, schema: z.ZodType<T>) {
    const queues = new Set<BoundedQueue<T>>();
    return {
      publish(message: T): void {
        if (queues.size === 0 || !connected) return;
        const data = encodeMessage(message);
        const headers = new Map<string, string>();
        if (hasActiveSpan()) injectTrace(headers);
        for (const queue of queues) {
          const decoded = decodeMessage(schema, data);
          if (decoded.kind === "malformed") {
            warnings.add("malformed", `Left out a ${label}: ${decoded.reason}`);
            continue;
          }
          if (headers.size > 0) rememberTrace(decoded.message, headers);
          queue.push(decoded.message);
        }
      },
      subscribe(signal: AbortSignal): AsyncIterable<T> {
        return streams.add(signal, (onEnd) => {
          const queue: BoundedQueue<T> = new BoundedQueue<T>({
            capacity: queueMax,
            onDrop: () =>
              warnings.add("dropped", `A reader of ${label} is slow`),
            onEnd() {
              queues.delete(queue);
              onEnd();
            },
          });
          queues.add(queue);
          return queue;
        });
      },
    };
  }

  const kv = topic("KV event", schemas.kv);
  const traffic = topic("traffic report", schemas.traffic);
  const wake = topic("wake message", schemas.wake);

  return {
    // deno-lint-ignore require-await -- a faulty record rejects here as it does over NATS
    async putWorker(record) {
      if (connected) table.put(requireValid("worker", schemas.worker, record));
    },
    removeWorker(role, workerId) {
      table.remove(role, workerId);
      return Promise.resolve();
    },
    watchWorkers(signal): AsyncIterable<WorkerChange> {
      return streams.add(signal, (onEnd) => {
        const changes: WorkerChanges = new WorkerChanges(() => {
          watchers.delete(changes);
          onEnd();
        });
        for (const record of table.records) {
          changes.push({ kind: "put", record });
        }
        watchers.add(changes);
        return changes;
      });
    },
    // deno-lint-ignore require-await -- a faulty entry rejects here as it does over NATS
    async putModel(entry) {
      modelTable.put(requireValid("model", schemas.model, entry));
    },
    removeModel(model) {
      modelTable.remove(model);
      return Promise.resolve();
    },
    watchModels(signal): AsyncIterable<ModelChange> {
      return streams.add(signal, (onEnd) => {
        const changes: ModelChanges = new ModelChanges(() => {
          modelWatchers.delete(changes);
          onEnd();
        });
        for (const entry of modelTable.entries) {
          changes.push({ kind: "put", entry });
        }
        modelWatchers.add(changes);
        return changes;
      });
    },
    publishKv: kv.publish,
    subscribeKv: kv.subscribe,
    serveKvDump(workerId, dump) {
      dumps.set(workerId, dump);
      return {
        [Symbol.dispose]() {
          if (dumps.get(workerId) === dump) dumps.delete(workerId);
        },
      };
    },
    // deno-lint-ignore require-await -- the answer is a promise over NATS
    async requestKvDump(workerId, signal) {
      const dump = dumps.get(workerId);
      if (!dump || signal.aborted || !connected) return undefined;
      const decoded = decodeMessage(schemas.kvDump, encodeMessage(dump()));
      if (decoded.kind === "message") return decoded.message;
      warnings.add("malformed", `Left out a KV dump: ${decoded.reason}`);
      return undefined;
    },
    publishTraffic: traffic.publish,
    subscribeTraffic: traffic.subscribe,
    publishWake: wake.publish,
    subscribeWake: wake.subscribe,
    get connected() {
      return connected;
    },
    get warningCounts() {
      return warnings.counts;
    },
    [Symbol.asyncDispose]() {
      connected = false;
      streams[Symbol.dispose]();
      table[Symbol.dispose]();
      return Promise.resolve();
    },
  };
}

import { setTimeout as delay } from "node:timers/promises";
import type { NatsConnection, Status } from "@nats-io/transport-node";
import { type Clock, systemClock } from "./clock.ts";
import { schemas } from "./messages.ts";
import {
  connectNats,
  type ConnectOptions,
  untilReady,
} from "./nats_connect.ts";
import { requestKvDump, serveKvDump } from "./nats_kv_dump.ts";
import { createTopic } from "./nats_topic.ts";
import { NatsModels, NatsModelWatch } from "./nats_models.ts";
import { NatsWatch } from "./nats_watch.ts";
import { NatsWorkers } from "./nats_workers.ts";
import { OpenStreams } from "./open_streams.ts";
import {
  type BusOptions,
  type MeshBus,
  queueMaxDefault,
  workerTtlMsDefault,
} from "./options.ts";
import { requireValid } from "./require_valid.ts";
import { subjects } from "./subjects.ts";
import { Warnings } from "./warnings.ts";

export interface ConnectBusOptions extends BusOptions, ConnectOptions {
  readonly clock?: Clock;
  /** A worker missing after an outage may take this long to return; 4,000 unless set. */
  readonly graceMs?: number;
  /** Servers of a NATS cluster that keep the worker records; 1 unless set. */
  readonly replicas?: number;
  /** For a whole KV dump to arrive; 5,000 unless set. */
  readonly dumpTimeoutMs?: number;
}

/**
 * The mesh over NATS with JetStream.
 *
 * Waits for the first connection until `signal` aborts. Afterwards an outage throws nowhere:
 * publishes are dropped and counted, `putWorker()` keeps the record and writes it on return,
 * subscriptions and watches go on by themselves.
 */
export async function connectBus(options: ConnectBusOptions): Promise<MeshBus> {
  const warnings = new Warnings(options.onWarning);
  const nc = await connectNats(options, warnings);
  try {
    const bus = new NatsBus(nc, options, warnings);
    await untilReady(options, warnings, () => bus.workers.ensureBucket());
    return bus;
  } catch (error) {
    await nc.close();
    throw error;
  }
}

class NatsBus implements MeshBus {
  readonly workers: NatsWorkers;
  readonly publishKv: MeshBus["publishKv"];
  readonly subscribeKv: MeshBus["subscribeKv"];
  readonly publishTraffic: MeshBus["publishTraffic"];
  readonly subscribeTraffic: MeshBus["subscribeTraffic"];
  readonly publishWake: MeshBus["publishWake"];
  readonly subscribeWake: MeshBus["subscribeWake"];

  readonly #nc: NatsConnection;
  readonly #options: ConnectBusOptions;
  readonly #warnings: Warnings;
  readonly #clock: Clock;
  readonly #ttlMs: number;
  readonly #streams = new OpenStreams();
  readonly #watches = new Set<NatsWatch>();
  readonly #models: NatsModels;
  readonly #modelWatches = new Set<NatsModelWatch>();
  #connected = true;
  /** Counts connections: work begun under an older one stops. */
  #epoch = 0;

  constructor(
    nc: NatsConnection,
    options: ConnectBusOptions,
    warnings: Warnings,
  ) {
    this.#nc = nc;
    this.#options = options;
    this.#warnings = warnings;
    this.#clock = options.clock ?? systemClock;
    this.#ttlMs = options.workerTtlMs ?? workerTtlMsDefault;
    const parts = {
      nc,
      warnings,
      isConnected: () => this.#connected,
      streams: this.#streams,
      queueMax: options.queueMax ?? queueMaxDefault,
    };
    this.workers = new NatsWorkers({
      ...parts,
      ttlMs: this.#ttlMs,
      replicas: options.replicas ?? 1,
    });

    this.#models = new NatsModels({
      ...parts,
      replicas: options.replicas ?? 1,
    });
    const kv = createTopic(parts, {
      label: "KV event",
      schema: schemas.kv,
      subject: (event) => subjects.kv(event.model, event.workerId),
      allSubjects: subjects.kvAll,
    });
    const traffic = createTopic(parts, {
      label: "traffic report",
      schema: schemas.traffic,
      subject: (report) => subjects.traffic(report.model),
      allSubjects: subjects.trafficAll,
    });
    const wake = createTopic(parts, {
      label: "wake message",
      schema: schemas.wake,
      subject: (message) => subjects.wake(message.model),
      allSubjects: subjects.wakeAll,
    });
    this.publishKv = kv.publish;
    this.subscribeKv = kv.subscribe;
    this.publishTraffic = traffic.publish;
    this.subscribeTraffic = traffic.subscribe;
    this.publishWake = wake.publish;
    this.subscribeWake = wake.subscribe;
    void this.#follow();
  }

  get connected(): boolean {
    return this.#connected;
  }

  get warningCounts(): MeshBus["warningCounts"] {
    return this.#warnings.counts;
  }

  async putWorker(record: Parameters<MeshBus["putWorker"]>[0]): Promise<void> {
    await this.workers.put(requireValid("worker", schemas.worker, record));
  }

  removeWorker(
    ...[role, workerId]: Parameters<MeshBus["removeWorker"]>
  ): Promise<void> {
    return this.workers.remove(role, workerId);
  }

  watchWorkers(signal: AbortSignal): ReturnType<MeshBus["watchWorkers"]> {
    return this.#streams.add(signal, (onEnd) => {
      const watch: NatsWatch = new NatsWatch({
        nc: this.#nc,
        workers: this.workers,
        warnings: this.#warnings,
        clock: this.#clock,
        ttlMs: this.#ttlMs,
        graceMs: this.#options.graceMs ?? 4_000,
      }, () => {
        this.#watches.delete(watch);
        onEnd();
      });
      this.#watches.add(watch);
      if (!this.#connected) watch.pause();
      else void this.#read(watch, this.#epoch);
      return watch.changes;
    });
  }

  async putModel(entry: Parameters<MeshBus["putModel"]>[0]): Promise<void> {
    await this.#models.put(requireValid("model", schemas.model, entry));
  }

  removeModel(model: string): Promise<void> {
    return this.#models.remove(model);
  }

  watchModels(signal: AbortSignal): ReturnType<MeshBus["watchModels"]> {
    return this.#streams.add(signal, (onEnd) => {
      const watch: NatsModelWatch = new NatsModelWatch({
        nc: this.#nc,
        models: this.#models,
        warnings: this.#warnings,
        clock: this.#clock,
        graceMs: this.#ttlMs,
      }, () => {
        this.#modelWatches.delete(watch);
        onEnd();
      });
      this.#modelWatches.add(watch);
      if (this.#connected) void this.#readModels(watch, this.#epoch);
      return watch.changes;
    });
  }

  serveKvDump(
    ...[workerId, dump]: Parameters<MeshBus["serveKvDump"]>
  ): Disposable {
    const parts = { nc: this.#nc, warnings: this.#warnings };
    return serveKvDump(parts, workerId, dump);
  }

  requestKvDump(
    ...[workerId, signal]: Parameters<MeshBus["requestKvDump"]>
  ): ReturnType<MeshBus["requestKvDump"]> {
    if (!this.#connected) return Promise.resolve(undefined);
    return requestKvDump({ nc: this.#nc, warnings: this.#warnings }, {
      workerId,
      signal,
      clock: this.#clock,
      timeoutMs: this.#options.dumpTimeoutMs ?? 5_000,
    });
  }

  /** Sends what is under way, for a second at most, then closes. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#streams[Symbol.dispose]();
    if (this.#connected) {
      const giveUp = new AbortController();
      const wait = delay(1_000, undefined, { signal: giveUp.signal });
      // The connection may break while draining: closing is what remains either way.
      await Promise.race([this.#nc.drain(), wait]).catch(() => {});
      giveUp.abort();
      await wait.catch(() => {});
    }
    this.#connected = false;
    this.#epoch++;
    await this.#nc.close();
  }

  async #follow(): Promise<void> {
    for await (const status of this.#nc.status()) this.#hear(status);
  }

  #hear(status: Status): void {
    switch (status.type) {
      case "disconnect":
      case "close":
        if (!this.#connected) return;
        this.#connected = false;
        this.#epoch++;
        for (const watch of this.#watches) watch.pause();
        if (status.type === "disconnect") {
          this.#warnings.add("connection", `Lost NATS at ${status.server}`);
        }
        return;
      case "reconnect":
        this.#connected = true;
        this.#epoch++;
        this.#warnings.add("connection", `NATS is back at ${status.server}`);
        return void this.#recover(this.#epoch);
      case "error":
        return this.#warnings.add("connection", "NATS refuses", status.error);
    }
  }

  async #recover(epoch: number): Promise<void> {
    for (const watch of this.#watches) watch.resume();
    await this.#persist(epoch, () => this.workers.writeAgain());
    const reads = [...this.#watches].map((watch) => this.#read(watch, epoch));
    const modelReads = [...this.#modelWatches].map((watch) =>
      this.#readModels(watch, epoch)
    );
    await Promise.all([...reads, ...modelReads]);
  }

  #readModels(watch: NatsModelWatch, epoch: number): Promise<void> {
    return this.#persist(epoch, async () => {
      if (this.#modelWatches.has(watch)) await watch.read();
    });
  }

  #read(watch: NatsWatch, epoch: number): Promise<void> {
    return this.#persist(epoch, async () => {
      if (this.#watches.has(watch)) await watch.read();
    });
  }

  /** JetStream may take a moment longer than NATS; the next reconnect begins anew. */
  async #persist(epoch: number, attempt: () => Promise<void>): Promise<void> {
    for (let waitMs = 100; epoch === this.#epoch; waitMs *= 2) {
      try {
        return await attempt();
      } catch (error) {
        if (epoch !== this.#epoch) return;
        this.#warnings.add("connection", "JetStream does not answer", error);
        await delay(Math.min(waitMs, 2_000));
      }
    }
  }
}

import type {
  Bus,
  KvEvent,
  TrafficReport,
  WakeMessage,
  WorkerChange,
  WorkerRecord,
} from "../../../lib/bus/mod.ts";
import type {
  MeshEvent,
  MeshState,
  ModelList,
  ModelState,
  RouterState,
  ScalingDecision,
  WorkerState,
} from "../api_types.ts";
import { CachedBlocks } from "./cached_blocks.ts";
import type { MeshEdges } from "./mesh_edges.ts";
import { ModelTraffic } from "./model_traffic.ts";
import type { Scraper } from "./scraper.ts";

export interface LiveMeshOptions {
  readonly nowMs: () => number;
  readonly edges: MeshEdges;
  readonly scraper: Scraper;
  /** Newest first. */
  readonly decisions: (model: string) => readonly ScalingDecision[];
}

interface SeenWorker {
  record: WorkerRecord;
  seenAtMs: number;
  goneAtMs: number | undefined;
}

/** A worker that went away is shown for a while: "where is it?" is the question then. */
const goneMs = 60_000;
const logMax = 100;
const modelsMax = 2_000;

/** What NATS says about the mesh, gathered into the state that the page shows. */
export class LiveMesh {
  readonly #options: LiveMeshOptions;
  readonly #workers = new Map<string, SeenWorker>();
  readonly #models = new Map<string, ModelTraffic>();
  readonly #routers = new Map<string, Map<string, TrafficReport>>();
  readonly #routerSeen = new Map<string, number>();
  readonly #log: MeshEvent[] = [];
  readonly #cached = new CachedBlocks();
  readonly #listeners = new Set<() => void>();
  #connected = false;

  constructor(options: LiveMeshOptions) {
    this.#options = options;
  }

  /** Follows the bus until aborted. */
  follow(bus: Bus, signal: AbortSignal): Promise<unknown> {
    const each = async <T>(
      stream: AsyncIterable<T>,
      take: (message: T) => void,
    ) => {
      for await (const message of stream) take(message);
    };
    const dump = async (workerId: string) => {
      const answer = await bus.requestKvDump(
        workerId,
        AbortSignal.any([signal, AbortSignal.timeout(2_000)]),
      ).catch(() => undefined);
      if (answer !== undefined) this.#cached.dumped(answer);
    };
    const poll = setInterval(() => this.#setConnected(bus.connected), 1_000);
    signal.addEventListener("abort", () => clearInterval(poll));
    this.#setConnected(bus.connected);
    return Promise.all([
      each(bus.watchWorkers(signal), (change) => {
        this.#workerChanged(change);
        if (change.kind === "put") {
          const { workerId } = change.record;
          if (this.#cached.wants(workerId)) void dump(workerId);
        }
      }),
      each(bus.subscribeTraffic(signal), (report) => this.#traffic(report)),
      each(bus.subscribeWake(signal), (message) => this.#wake(message)),
      each(bus.subscribeKv(signal), (event: KvEvent) => {
        if (!this.#cached.take(event)) void dump(event.workerId);
        this.#changed();
      }),
    ]);
  }

  onChange(listener: () => void): Disposable {
    this.#listeners.add(listener);
    return { [Symbol.dispose]: () => this.#listeners.delete(listener) };
  }

  state(): MeshState {
    const nowMs = this.#options.nowMs();
    this.#forgetGone(nowMs);
    return {
      atMs: nowMs,
      natsConnected: this.#connected,
      routers: this.#routerStates(nowMs),
      workers: [...this.#workers.values()].map((seen) => this.#show(seen))
        .sort((a, b) =>
          a.role.localeCompare(b.role) || a.workerId.localeCompare(b.workerId)
        ),
      edges: this.#options.edges.edges(nowMs),
      log: [...this.#log],
    };
  }

  models(): ModelList {
    const atMs = this.#options.nowMs();
    const names = [...this.#models.keys()].sort();
    return { atMs, models: names.map((name) => this.#model(name, atMs)) };
  }

  #workerChanged(change: WorkerChange): void {
    const nowMs = this.#options.nowMs();
    if (change.kind === "gone") {
      const seen = this.#workers.get(change.workerId);
      if (seen !== undefined && seen.goneAtMs === undefined) {
        seen.goneAtMs = nowMs;
        this.#cached.forget(change.workerId);
        this.#note("worker_left", {
          workerId: change.workerId,
          text: `${change.role} worker ${change.workerId} left`,
        });
      }
    } else this.#workerPut(change.record, nowMs);
    this.#followMetrics();
    this.#changed();
  }

  #workerPut(record: WorkerRecord, nowMs: number): void {
    const { workerId, role } = record;
    const before = this.#workers.get(workerId);
    const isBack = before === undefined || before.goneAtMs !== undefined ||
      before.record.startedAtMs !== record.startedAtMs;
    this.#workers.set(workerId, {
      record,
      seenAtMs: nowMs,
      goneAtMs: undefined,
    });
    if (isBack) {
      this.#cached.forget(workerId);
      this.#note("worker_joined", {
        workerId,
        text: `${role} worker ${workerId} joined at ${record.address}`,
      });
    }
    if (record.draining && !before?.record.draining) {
      this.#note("worker_draining", {
        workerId,
        text: `${role} worker ${workerId} drains`,
      });
    }
    const old = new Set(
      isBack ? [] : running(before!.record).map((m) => m.model),
    );
    for (const { model } of running(record)) {
      if (role === "decode") this.#traffics(model)?.served(nowMs);
      if (!old.delete(model)) {
        this.#note("model_loaded", {
          workerId,
          model,
          text: `${workerId} serves ${model}`,
        });
      }
    }
    for (const model of old) {
      this.#note("model_unloaded", {
        workerId,
        model,
        text: `${workerId} serves ${model} no more`,
      });
    }
  }

  #traffic(report: TrafficReport): void {
    const nowMs = this.#options.nowMs();
    const { routerId, model } = report;
    this.#traffics(model)?.take(report, nowMs);
    const models = this.#routers.get(routerId) ?? new Map();
    if (this.#routers.size < 1_000 || this.#routers.has(routerId)) {
      models.set(model, report);
      this.#routers.set(routerId, models);
      this.#routerSeen.set(routerId, nowMs);
    }
    this.#changed();
  }

  #wake({ model, held }: WakeMessage): void {
    const traffic = this.#traffics(model);
    const wasWaking = traffic?.coldStarts.at(-1)?.readyAtMs === null;
    traffic?.woken(this.#options.nowMs(), held);
    if (!wasWaking) {
      this.#note("wake", {
        model,
        text: `${held} requests wait for ${model}, which nobody serves`,
      });
    }
    this.#changed();
  }

  /** Names come from requests, so there is a bound. */
  #traffics(model: string): ModelTraffic | undefined {
    const known = this.#models.get(model);
    if (known !== undefined) return known;
    if (this.#models.size >= modelsMax) return undefined;
    const fresh = new ModelTraffic();
    this.#models.set(model, fresh);
    return fresh;
  }

  #model(model: string, nowMs: number): ModelState {
    const traffic = this.#models.get(model)!;
    const serving = [...this.#workers.values()].filter(({ goneAtMs }) =>
      goneAtMs === undefined
    ).flatMap(({ record }) =>
      running(record).filter((served) => served.model === model)
        .map((served) => ({ role: record.role, served }))
    );
    const decode = serving.filter(({ role }) => role === "decode");
    const total = (key: "waiting" | "running" | "blocksTotal" | "blocksFree") =>
      decode.reduce((sum, { served }) => sum + served[key], 0);
    const held = traffic.held(nowMs);
    return {
      model,
      state: decode.length > 0
        ? "running"
        : held > 0
        ? "waking"
        : traffic.wasServed
        ? "asleep"
        : "absent",
      decodeReplicas: decode.length,
      prefillReplicas: serving.length - decode.length,
      running: Math.max(total("running"), traffic.running(nowMs)),
      waiting: total("waiting"),
      held,
      blocksTotal: total("blocksTotal"),
      blocksFree: total("blocksFree"),
      requestsPerS: traffic.rate("arrivals", nowMs),
      failuresPerS: traffic.rate("failures", nowMs),
      outputTokensPerS: traffic.rate("outputTokens", nowMs),
      traffic: traffic.series(nowMs),
      coldStarts: [...traffic.coldStarts],
      decisions: this.#options.decisions(model),
      lastRequestAtMs: traffic.lastRequestAtMs,
    };
  }

  #routerStates(nowMs: number): RouterState[] {
    return [...this.#routers].map(([routerId, models]) => {
      const seenAtMs = this.#routerSeen.get(routerId) ?? 0;
      // Silence means no traffic: the last report says nothing about now.
      const reports = nowMs - seenAtMs > 5_000 ? [] : [...models.values()]
        .filter(({ atMs }) => nowMs - atMs <= 5_000);
      const sum = (key: "running" | "held") =>
        reports.reduce((total, report) => total + report[key], 0);
      const rate = (
        key: "arrivals" | "failures" | "promptTokens" | "generatedTokens",
      ) =>
        reports.reduce(
          (total, report) =>
            total + report[key] / Math.max(report.windowMs, 1) * 1_000,
          0,
        );
      return {
        routerId,
        seenAtMs,
        running: sum("running"),
        held: sum("held"),
        requestsPerS: rate("arrivals"),
        failuresPerS: rate("failures"),
        promptTokensPerS: rate("promptTokens"),
        outputTokensPerS: rate("generatedTokens"),
      };
    });
  }

  #show({ record, seenAtMs, goneAtMs }: SeenWorker): WorkerState {
    const { workerId, role, address, startedAtMs, draining } = record;
    return {
      workerId,
      role,
      address,
      startedAtMs,
      state: goneAtMs !== undefined ? "gone" : draining ? "draining" : "ready",
      seenAtMs,
      models: record.models.map((model) => ({
        ...model,
        blocksCached: this.#cached.count(workerId, model.model),
      })),
      metrics: this.#options.scraper.get(workerId),
    };
  }

  #followMetrics(): void {
    const addresses = new Map<string, string>();
    for (const [workerId, { record, goneAtMs }] of this.#workers) {
      if (goneAtMs !== undefined || !record.metricsAddress) continue;
      addresses.set(workerId, record.metricsAddress);
    }
    this.#options.scraper.follow(addresses);
  }

  #forgetGone(nowMs: number): void {
    for (const [workerId, { goneAtMs }] of this.#workers) {
      if (goneAtMs !== undefined && nowMs - goneAtMs > goneMs) {
        this.#workers.delete(workerId);
      }
    }
    for (const [routerId, seenAtMs] of this.#routerSeen) {
      if (nowMs - seenAtMs <= 10 * goneMs) continue;
      this.#routerSeen.delete(routerId);
      this.#routers.delete(routerId);
    }
  }

  #setConnected(connected: boolean): void {
    if (connected === this.#connected) return;
    this.#connected = connected;
    this.#note(connected ? "nats_back" : "nats_lost", {
      text: connected ? "NATS answers" : "NATS is away: what is shown is old",
    });
    this.#changed();
  }

  #note(
    kind: MeshEvent["kind"],
    { workerId = null, model = null, text }: {
      workerId?: string | null;
      model?: string | null;
      text: string;
    },
  ): void {
    const atMs = this.#options.nowMs();
    this.#log.push({ atMs, kind, workerId, model, text });
    if (this.#log.length > logMax) this.#log.shift();
  }

  #changed(): void {
    for (const listener of this.#listeners) listener();
  }
}

/** Of a worker's models those that take sequences. */
function running({ models }: WorkerRecord) {
  return models.filter(({ state }) => state === "running");
}

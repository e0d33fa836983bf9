import type { Tracer } from "@opentelemetry/api";
import { type Bus, systemClock } from "../../../lib/bus/mod.ts";
import type { WakeMessage, WorkerChange } from "../../../lib/bus/types.ts";
import type { Logger } from "../../../lib/telemetry/mod.ts";
import { Applier, type KubeClient } from "../kube/mod.ts";
import { MeshView } from "../mesh/mesh_view.ts";
import type { ControllerMetrics } from "../metrics.ts";
import type { Action } from "../scaling/plan_placement.ts";
import type { ModelFailure } from "../scaling/scaled_model.ts";
import { type PoolChange, Scaler } from "../scaling/scaler.ts";
import type { WorkloadDefaults } from "../workload/plan_pool_workload.ts";
import { type Context, DecisionLogs } from "./context.ts";
import { DrainClock } from "./drain_clock.ts";
import { createInformers, discoverDisruptionApi } from "./informers.ts";
import { Placer } from "./placer.ts";
import { PodIndex } from "./pod_index.ts";
import { readModel } from "./reconcile_model.ts";
import { Reconciling } from "./reconciling.ts";
import { Reports } from "./reports.ts";
import { Triggers } from "./triggers.ts";
import { WakeTiming } from "./wake_timing.ts";
import { WorkerBook } from "./worker_book.ts";
import { connectWorker, type WorkerCalls } from "./worker_calls.ts";
import { Writer } from "./writer.ts";

export interface ControllerOptions {
  readonly client: KubeClient;
  readonly namespace: string;
  readonly identity: string;
  readonly defaults: WorkloadDefaults;
  readonly log: Logger;
  readonly metrics: ControllerMetrics;
  readonly tracer: Tracer;
  readonly tickMs: number;
  readonly resyncMs: number;
  /** Whether nobody else can lead now; always unless set. */
  readonly mayAct?: () => boolean;
  /** Keys worked on at once; 8 unless set. */
  readonly workersMax?: number;
  readonly connect?: (address: string) => WorkerCalls;
  readonly random?: () => number;
  /** See `MeshView`. */
  readonly settleMs?: number;
}

export const fieldManager = "quetzal-autoscaler";

/**
 * The controller while it leads.
 *
 * Whatever happens only queues the key of an object (`Triggers`), and reconciling
 * looks at what is there now. Deciding is `Scaler`'s, calls to workers are
 * `Placer`'s, telling people is `Reports`'; this class connects them and owns
 * nothing that could not be built anew.
 */
export class Controller {
  readonly #options: ControllerOptions;
  readonly #now = systemClock.nowMs;
  readonly #random: () => number;
  readonly #decisions = new DecisionLogs();
  readonly #invalid = new Set<string>();
  readonly #workers = new WorkerBook();
  readonly #pods = new PodIndex(this.#now);
  readonly #triggers: Triggers;
  readonly #reconciling: Reconciling;
  readonly #mesh: MeshView;
  readonly #placer: Placer;
  readonly #scaler: Scaler;
  readonly #reports: Reports;
  readonly #wakes: WakeTiming;
  #context: Context | undefined;
  #sight: MeshView["sight"] | undefined;

  constructor(options: ControllerOptions) {
    this.#options = options;
    this.#random = options.random ?? Math.random;
    this.#triggers = new Triggers({
      add: (key) => this.#reconciling.add(key),
      informers: () => this.#context?.informers,
      invalid: this.#invalid,
    });
    this.#reconciling = this.#createReconciling();
    this.#mesh = this.#createMesh();
    this.#placer = this.#createPlacer();
    this.#scaler = this.#createScaler();
    this.#reports = this.#createReports();
    const { wakeToPatchSeconds } = options.metrics;
    this.#wakes = new WakeTiming(
      this.#now,
      (seconds) => wakeToPatchSeconds.observe(seconds),
    );
  }

  /** Leads until `signal` aborts; `bus` may take as long as it likes to come. */
  async run(bus: Promise<Bus>, signal: AbortSignal): Promise<void> {
    const { client, namespace, log, metrics, tickMs, resyncMs } = this.#options;
    await using open = new AsyncDisposableStack();
    open.use(this.#placer);
    open.defer(() => this.#reports.flush());
    open.use(this.#reconciling);
    const disruptionApi = await discoverDisruptionApi(client, signal);
    const informers = createInformers({
      client,
      namespace,
      disruptionApi,
      metrics,
      log,
      random: this.#random,
      onChange: (change) => this.#triggers.objectChanged(change),
      onPod: (name, pod) => this.#podsChanged(this.#pods.take(name, pod)),
    });
    this.#context = this.#createContext(informers, disruptionApi);
    const running = informers.run(signal);
    const following = this.#follow(bus, signal);
    await Promise.race([informers.synced, running]);
    this.#triggers.open();
    if (!signal.aborted) {
      log.info(
        { models: informers.models.size, pools: informers.pools.size },
        "Knows all objects",
      );
    }
    this.#triggers.all();
    const ticking = setInterval(() => this.#tick(), tickMs);
    const resyncing = setInterval(() => this.#triggers.all(), resyncMs);
    try {
      await Promise.all([running, following]);
    } finally {
      clearInterval(ticking);
      clearInterval(resyncing);
    }
  }

  /** Follows the mesh once it is there; nothing is decided before. */
  async #follow(bus: Promise<Bus>, signal: AbortSignal): Promise<void> {
    const { log } = this.#options;
    const stopped = new Promise<undefined>((resolve) => {
      signal.addEventListener("abort", () => resolve(undefined), {
        once: true,
      });
    });
    const found = await Promise.race([bus, stopped]);
    if (!found || signal.aborted) return;
    log.info("Listens to the mesh");
    try {
      await this.#mesh.follow(found, signal);
    } catch (reason) {
      if (!signal.aborted) throw reason;
    }
  }

  #tick(): void {
    const { metrics, log } = this.#options;
    const { sight } = this.#mesh;
    if (sight !== this.#sight) {
      this.#sight = sight;
      const isClear = sight === "clear";
      metrics.blind.set(isClear ? 0 : 1);
      log.info(
        { sight },
        isClear ? "Decides" : "Decides nothing: what it knows may be old",
      );
      this.#triggers.all();
    }
    this.#scaler.tick();
    metrics.queueDepth.set(this.#reconciling.depth);
  }

  #hearWake({ model }: WakeMessage): void {
    if (!this.#knows(model)) return;
    this.#wakes.heard();
    this.#scaler.wake(model);
    this.#triggers.model(model);
  }

  #hearWorker(change: WorkerChange): void {
    const news = this.#workers.take(change);
    if (!news) return;
    const { record, pod, models, freed } = news;
    if (freed !== undefined) this.#placer.drop(freed);
    if (record) this.#scaler.workerChanged(record);
    for (const model of models) this.#triggers.model(model);
    this.#podsChanged(this.#pods.poolOf(pod));
  }

  #podsChanged(pool: string | undefined): void {
    if (pool === undefined) return;
    this.#scaler.podsChanged(pool);
    this.#triggers.pool(pool);
  }

  #poolDecided(change: PoolChange): void {
    if (change.wakeOf !== undefined) this.#wakes.changed(change.pool);
    this.#reports.poolDecided(change);
    this.#triggers.pool(change.pool);
  }

  #placed(action: Action, tookMs: number): void {
    const { kind, model } = action;
    this.#reports.placed(action, tookMs);
    if (kind === "load" || kind === "wake") this.#scaler.succeeded(model);
    this.#triggers.model(model);
  }

  #placementFailed(model: string, failure: ModelFailure): void {
    this.#reports.placementFailed(model, failure);
    this.#scaler.failed(model, failure);
    this.#triggers.model(model);
  }

  /** It takes more than was free there; the next plan looks for a larger place. */
  #noRoom(workerId: string, model: string): void {
    const worker = this.#mesh.workers()
      .find((each) => each.workerId === workerId);
    if (worker) this.#scaler.needsMore(model, worker.memoryBytesFree + 1);
  }

  #knows(model: string): boolean {
    return this.#context?.informers.models.get(model) !== undefined;
  }

  /** What the placer needs to know of a Model, also of one that is being deleted. */
  #placeable(name: string) {
    const model = this.#context?.informers.models.get(name);
    if (!model || !this.#context) return undefined;
    const { spec } = readModel(model, this.#context);
    return spec && { source: spec.source, drainMs: spec.drainSeconds * 1_000 };
  }

  #createMesh(): MeshView {
    const { settleMs = 3_000, tickMs } = this.#options;
    return new MeshView({
      nowMs: this.#now,
      settleMs,
      awayMs: Math.max(3_000, 3 * tickMs),
      knows: (model) => this.#knows(model),
      onWake: (message) => this.#hearWake(message),
      onWorker: (change) => this.#hearWorker(change),
      // Also of Models that went while nobody led: their reconcile removes the entry.
      onEntry: (model) => this.#triggers.model(model),
    });
  }

  #createPlacer(): Placer {
    return new Placer({
      connect: this.#options.connect ?? connectWorker,
      mayAct: this.#options.mayAct ?? (() => true),
      addressOf: (workerId) => this.#workers.addressOf(workerId),
      modelOf: (model) => this.#placeable(model),
      nowMs: this.#now,
      random: this.#random,
      failureOf: (model) => this.#scaler.failureOf(model),
      onFailure: (model, failure) => this.#placementFailed(model, failure),
      onNoRoom: (workerId, model) => this.#noRoom(workerId, model),
      onDone: (action, tookMs) => this.#placed(action, tookMs),
      onProgress: (model) => this.#triggers.model(model),
    });
  }

  #createScaler(): Scaler {
    return new Scaler({
      mesh: this.#mesh,
      nowMs: this.#now,
      podsOf: (pool) => this.#pods.of(pool),
      isProtected: (model, pool) => {
        const spec = this.#context?.informers.models.get(model)?.spec;
        return spec?.pool === pool || spec?.prefillPool === pool;
      },
      pendingOf: (workerId) => this.#placer.pendingOf(workerId),
      onPool: (change) => this.#poolDecided(change),
      onModel: (change) => {
        this.#reports.modelDecided(change);
        this.#triggers.model(change.model);
      },
      onActions: (_pool, actions) => this.#placer.run(actions),
    });
  }

  #createReports(): Reports {
    return new Reports({
      ...this.#options,
      component: fieldManager,
      decisions: this.#decisions,
      modelOf: (name) => this.#context?.informers.models.get(name),
      poolOf: (name) => this.#context?.informers.pools.get(name),
    });
  }

  #createReconciling(): Reconciling {
    return new Reconciling({
      ...this.#options,
      random: this.#random,
      context: () => this.#context!,
      onDone: (kind, name) => {
        if (kind === "pool") this.#wakes.patched(name);
      },
    });
  }

  #createContext(
    informers: Context["informers"],
    disruptionApi: Context["disruptionApi"],
  ): Context {
    const { client, namespace, defaults, log, metrics, tracer } = this.#options;
    return {
      client,
      namespace,
      informers,
      applier: new Applier({ client, manager: fieldManager }),
      writer: new Writer({ client, manager: fieldManager, metrics }),
      scaler: this.#scaler,
      placer: this.#placer,
      mesh: this.#mesh,
      pods: this.#pods,
      decisions: this.#decisions,
      drains: new DrainClock(this.#now),
      conflicts: new Map(),
      invalid: this.#invalid,
      defaults,
      disruptionApi,
      metrics,
      tracer,
      log,
      event: (note) => this.#reports.event(note),
      wallMs: Date.now,
      nowMs: this.#now,
    };
  }
}

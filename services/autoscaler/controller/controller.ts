import type { Tracer } from "@opentelemetry/api";
import { type Bus, systemClock } from "../../../lib/bus/mod.ts";
import type { WakeMessage, WorkerChange } from "../../../lib/bus/types.ts";
import { Keys, type Logger, withSpan } from "../../../lib/telemetry/mod.ts";
import {
  Applier,
  EventRecorder,
  type KubeClient,
  WorkQueue,
} from "../kube/mod.ts";
import { MeshView } from "../mesh/mesh_view.ts";
import type { ControllerMetrics } from "../metrics.ts";
import type { ModelChange } from "../scaling/scaled_model.ts";
import { type PoolChange, Scaler } from "../scaling/scaler.ts";
import type { WorkloadDefaults } from "../workload/plan_pool_workload.ts";
import { type Context, DecisionLogs } from "./context.ts";
import { createInformers, discoverDisruptionApi } from "./informers.ts";
import { Placer } from "./placer.ts";
import { PodIndex } from "./pod_index.ts";
import { reconcileJob } from "./reconcile_job.ts";
import { readModel, reconcileModel } from "./reconcile_model.ts";
import { reconcilePool } from "./reconcile_pool.ts";
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
 * Level-based: whatever happens only queues the key of an object, and
 * reconciling looks at what is there now. Deciding is `Scaler`'s, calls to
 * workers are `Placer`'s; this class connects them and owns nothing that could
 * not be built anew.
 */
export class Controller {
  readonly #options: ControllerOptions;
  readonly #now = systemClock.nowMs;
  readonly #queue: WorkQueue;
  readonly #mesh: MeshView;
  readonly #pods: PodIndex;
  readonly #placer: Placer;
  readonly #scaler: Scaler;
  readonly #events: EventRecorder;
  readonly #decisions = new DecisionLogs();
  /** When a wake led to a change of a pool, until its Deployment is patched. */
  readonly #wakes = new Map<string, number>();
  #wakeAtMs = 0;
  readonly #addresses = new Map<string, string>();
  readonly #signatures = new Map<string, string>();
  #context: Context | undefined;
  #sight: MeshView["sight"] | undefined;
  #isSynced = false;

  constructor(options: ControllerOptions) {
    this.#options = options;
    const random = options.random ?? Math.random;
    this.#pods = new PodIndex(this.#now);
    this.#mesh = new MeshView({
      nowMs: this.#now,
      settleMs: options.settleMs ?? 3_000,
      knows: (model) => this.#knows(model),
      onWake: (message) => this.#hearWake(message),
      onWorker: (change) => this.#hearWorker(change),
      onEntry: (model) => this.#hearEntry(model),
    });
    this.#placer = new Placer({
      connect: options.connect ?? connectWorker,
      addressOf: (workerId) => this.#addresses.get(workerId),
      modelOf: (model) => this.#placeable(model),
      nowMs: this.#now,
      random,
      failureOf: (model) => this.#scaler.failureOf(model),
      onFailure: (model, failure) => this.#placementFailed(model, failure),
      onNoRoom: (workerId, model) => this.#noRoom(workerId, model),
      onDone: (action, tookMs) => this.#placed(action, tookMs),
      onProgress: (model) => this.#enqueue(`model/${model}`),
    });
    this.#scaler = new Scaler({
      mesh: this.#mesh,
      nowMs: this.#now,
      podsOf: (pool) => this.#pods.of(pool),
      isProtected: (model, pool) => {
        const spec = this.#context?.informers.models.get(model)?.spec;
        return spec?.pool === pool || spec?.prefillPool === pool;
      },
      pendingOf: (workerId) => this.#placer.pendingOf(workerId),
      onPool: (change) => this.#poolDecided(change),
      onModel: (change) => this.#modelDecided(change),
      onActions: (_pool, actions) => this.#placer.run(actions),
    });
    this.#events = new EventRecorder({
      client: options.client,
      component: fieldManager,
      instance: options.identity,
      nowMs: Date.now,
      onFailure: (reason) =>
        options.log.warn({ err: reason }, "Cannot write an event"),
    });
    this.#queue = new WorkQueue({
      clock: systemClock,
      random,
      workersMax: options.workersMax ?? 8,
      work: (key) => this.#reconcile(key),
      onFailure: (key, reason, waitMs) => {
        const [kind] = key.split("/");
        options.metrics.reconciles.inc({ kind, outcome: "failed" });
        options.log.warn(
          { err: reason, key, waitMs: Math.round(waitMs) },
          "Cannot reconcile; trying again",
        );
      },
    });
  }

  /** Leads until `signal` aborts; `bus` may take as long as it likes to come. */
  async run(bus: Promise<Bus>, signal: AbortSignal): Promise<void> {
    const { client, namespace, log, metrics, tickMs, resyncMs } = this.#options;
    await using open = new AsyncDisposableStack();
    open.use(this.#placer);
    open.defer(() => this.#events.flush());
    open.use(this.#queue);
    const disruptionApi = await discoverDisruptionApi(client, signal);
    const informers = createInformers({
      client,
      namespace,
      disruptionApi,
      metrics,
      log,
      random: this.#options.random ?? Math.random,
      onChange: (kind, name, change) => this.#objectChanged(kind, name, change),
      onPod: (name, pod) => this.#podChanged(name, pod),
    });
    this.#context = this.#createContext(informers, disruptionApi);
    const running = informers.run(signal);
    const following = this.#follow(bus, signal);
    await Promise.race([informers.synced, running]);
    this.#isSynced = true;
    if (!signal.aborted) {
      log.info(
        { models: informers.models.size, pools: informers.pools.size },
        "Knows all objects",
      );
    }
    this.#enqueueAll();
    const ticking = setInterval(() => this.#tick(), tickMs);
    const resyncing = setInterval(() => informers.resync(), resyncMs);
    try {
      await Promise.all([running, following]);
    } finally {
      clearInterval(ticking);
      clearInterval(resyncing);
    }
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
      conflicts: new Map(),
      invalid: new Set(),
      defaults,
      disruptionApi,
      metrics,
      tracer,
      log,
      enqueue: (key) => this.#enqueue(key),
      event: (note) => this.#events.record(note),
      wallMs: Date.now,
      nowMs: this.#now,
    };
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
      metrics.blind.set(sight === "clear" ? 0 : 1);
      log.info(
        { sight },
        sight === "clear" ? "Decides" : "Decides nothing: NATS is away",
      );
      this.#enqueueAll();
    }
    this.#scaler.tick();
    metrics.queueDepth.set(this.#queue.depth);
  }

  /** Before everything is known, the number of pods there are may look like none. */
  #enqueue(key: string): void {
    if (this.#isSynced) this.#queue.add(key);
  }

  #enqueueAll(): void {
    const { informers } = this.#context ?? {};
    for (const { metadata } of informers?.pools.list() ?? []) {
      this.#enqueue(`pool/${metadata.name}`);
    }
    for (const { metadata } of informers?.models.list() ?? []) {
      this.#enqueue(`model/${metadata.name}`);
    }
    for (const { metadata } of informers?.jobs.list() ?? []) {
      this.#enqueue(`job/${metadata.name}`);
    }
  }

  async #reconcile(key: string): Promise<number | void> {
    const context = this.#context!;
    const [kind, ...rest] = key.split("/");
    const name = rest.join("/");
    const { metrics, tracer } = this.#options;
    const end = metrics.reconcileSeconds.startTimer({ kind });
    const againMs = await withSpan({
      tracer,
      name: `reconcile ${kind}`,
      attributes: { "k8s.object.name": name },
    }, () => this.#reconcilers[kind](name, context));
    end();
    metrics.reconciles.inc({ kind, outcome: "ok" });
    if (kind === "pool") this.#patched(name);
    return againMs;
  }

  readonly #reconcilers: Record<
    string,
    (name: string, context: Context) => Promise<number | void>
  > = {
    pool: reconcilePool,
    model: reconcileModel,
    job: reconcileJob,
  };

  #objectChanged(
    kind: "model" | "pool" | "job" | "owned",
    name: string,
    change: { readonly specChanged: boolean; readonly owner?: string },
  ): void {
    if (kind === "owned") {
      if (change.owner) this.#enqueue(`pool/${change.owner}`);
      return;
    }
    if (!change.specChanged) return;
    this.#enqueue(`${kind}/${name}`);
    if (kind === "job") return;
    // Names and pools may clash with those of other Models: look again at who was refused.
    for (const key of this.#context?.invalid ?? []) this.#enqueue(key);
    if (kind === "pool") this.#enqueueModelsOf(name);
    else this.#enqueuePoolsOf(name);
  }

  #enqueueModelsOf(pool: string): void {
    for (
      const { metadata, spec } of this.#context?.informers.models.list() ?? []
    ) {
      if (spec?.pool === pool || spec?.prefillPool === pool) {
        this.#enqueue(`model/${metadata.name}`);
      }
    }
  }

  #enqueuePoolsOf(model: string): void {
    const { spec } = this.#context?.informers.models.get(model) ?? {};
    for (const pool of [spec?.pool, spec?.prefillPool]) {
      if (pool) this.#enqueue(`pool/${pool}`);
    }
  }

  #podChanged(name: string, pod: Parameters<PodIndex["take"]>[1]): void {
    const pool = this.#pods.take(name, pod);
    if (!pool) return;
    this.#scaler.podsChanged(pool);
    this.#enqueue(`pool/${pool}`);
  }

  #knows(model: string): boolean {
    return this.#context?.informers.models.get(model) !== undefined;
  }

  #hearWake({ model }: WakeMessage): void {
    if (!this.#knows(model)) return;
    this.#wakeAtMs = this.#now();
    this.#scaler.wake(model);
    this.#enqueue(`model/${model}`);
  }

  /** Also of Models that went while nobody led: their reconcile removes the entry. */
  #hearEntry(model: string): void {
    this.#enqueue(`model/${model}`);
  }

  /** The pool's objects are as wanted: whoever waited for a wake has waited until now. */
  #patched(pool: string): void {
    const sinceMs = this.#wakes.get(pool);
    if (sinceMs === undefined) return;
    this.#wakes.delete(pool);
    const seconds = (this.#now() - sinceMs) / 1_000;
    this.#options.metrics.wakeToPatchSeconds.observe(seconds);
  }

  #hearWorker(change: WorkerChange): void {
    const workerId = change.kind === "put"
      ? change.record.workerId
      : change.workerId;
    const pod = change.kind === "put"
      ? change.record.podName ?? workerId
      : workerId;
    const before = this.#signatures.get(workerId);
    if (change.kind === "gone") {
      const address = this.#addresses.get(workerId);
      if (address) this.#placer.drop(address);
      this.#addresses.delete(workerId);
      this.#signatures.delete(workerId);
    } else {
      const { record } = change;
      this.#addresses.set(workerId, record.address);
      const signature = signatureOf(change);
      if (signature === before) return;
      this.#signatures.set(workerId, signature);
      this.#scaler.workerChanged(record);
      for (const { model } of record.models) this.#enqueue(`model/${model}`);
    }
    for (const model of modelsIn(before)) this.#enqueue(`model/${model}`);
    const pool = this.#pods.poolOf(pod);
    if (!pool) return;
    this.#scaler.podsChanged(pool);
    this.#enqueue(`pool/${pool}`);
  }

  #poolDecided({ pool, from, decision, wakeOf }: PoolChange): void {
    const { log, metrics } = this.#options;
    const { wanted: to, reason, numbers } = decision;
    log.info({ pool, from, to, reason, numbers, wakeOf }, "Pool decided");
    metrics.decisions.inc({
      what: "pool",
      direction: to > from ? "up" : "down",
    });
    if (wakeOf !== undefined) this.#wakes.set(pool, this.#wakeAtMs);
    const object = this.#context?.informers.pools.get(pool);
    this.#decisions.add(
      `pool/${pool}`,
      object?.status?.decisions ?? [],
      { what: `replicas ${from} -> ${to}`, reason, numbers },
      Date.now(),
    );
    this.#enqueue(`pool/${pool}`);
    if (!object) return;
    this.#events.record({
      about: object,
      type: "Normal",
      reason: "Scaled",
      message: `${from} -> ${to} pods: ${reason}${
        wakeOf === undefined ? "" : `, requests wait for ${wakeOf}`
      }`,
    });
  }

  #modelDecided({ model, policy, from, decision }: ModelChange): void {
    const { metrics, tracer } = this.#options;
    const { replicas, residency, reason, numbers } = decision;
    withSpan({
      tracer,
      name: "scale",
      attributes: {
        [Keys.requestModel]: model,
        "quetzal.scaling.policy": policy,
        "quetzal.scaling.replicas_before": from.copies,
        "quetzal.scaling.replicas_after": replicas,
        "quetzal.scaling.residency": residency,
        "quetzal.scaling.reason": reason,
        ...Object.fromEntries(
          Object.entries(numbers).map(([name, value]) => [
            `quetzal.scaling.${name}`,
            value,
          ]),
        ),
      },
    }, () => {});
    metrics.modelCopies.set({ model }, replicas);
    if (from.copies !== replicas) {
      const direction = replicas > from.copies ? "up" : "down";
      metrics.decisions.inc({ what: "model", direction });
    }
    const object = this.#context?.informers.models.get(model);
    this.#decisions.add(
      `model/${model}`,
      object?.status?.decisions ?? [],
      {
        what: `workers ${from.copies} -> ${replicas}, ${residency}`,
        reason,
        numbers,
      },
      Date.now(),
    );
    this.#enqueue(`model/${model}`);
  }

  /** What the placer needs to know of a Model, also of one that is being deleted. */
  #placeable(name: string) {
    const model = this.#context?.informers.models.get(name);
    if (!model || !this.#context) return undefined;
    const { spec } = readModel(model, this.#context);
    return spec && { source: spec.source, drainMs: spec.drainSeconds * 1_000 };
  }

  #placed(
    { kind, worker, model }: Parameters<Placer["run"]>[0][number],
    tookMs: number,
  ): void {
    const { log, metrics } = this.#options;
    log.info({ action: kind, worker, model, ms: Math.round(tookMs) }, "Placed");
    metrics.placements.inc({ action: kind, outcome: "ok" });
    if (kind === "load" || kind === "wake") this.#scaler.succeeded(model);
    const object = this.#context?.informers.models.get(model);
    if (object) {
      this.#events.record({
        about: object,
        type: "Normal",
        reason: eventReasons[kind],
        message: `${eventReasons[kind]} on ${worker}`,
      });
    }
    this.#enqueue(`model/${model}`);
  }

  #placementFailed(
    model: string,
    failure: Parameters<Scaler["failed"]>[1],
  ): void {
    const { log, metrics } = this.#options;
    log.warn({ model, ...failure }, "A worker refused");
    metrics.placements.inc({ action: "any", outcome: "failed" });
    this.#scaler.failed(model, failure);
    const object = this.#context?.informers.models.get(model);
    if (object) {
      this.#events.record({
        about: object,
        type: "Warning",
        reason: "PlacementFailed",
        message: `${failure.workerId}: ${failure.message}`,
      });
    }
    this.#enqueue(`model/${model}`);
  }

  /** It takes more than was free there; the next plan looks for a larger place. */
  #noRoom(workerId: string, model: string): void {
    const worker = this.#mesh.workers().find((each) =>
      each.workerId === workerId
    );
    if (worker) this.#scaler.needsMore(model, worker.memoryBytesFree + 1);
  }
}

const eventReasons = {
  load: "Loaded",
  wake: "Woken",
  sleep: "Asleep",
  unload: "Unloaded",
};

/** What of a record concerns us: a renewal with other rates does not. */
function signatureOf(
  { record }: Extract<WorkerChange, { kind: "put" }>,
): string {
  const models = record.models.map(({ model, state }) => `${model}=${state}`);
  return [record.draining, record.address, ...models.toSorted()].join("\n");
}

function modelsIn(signature: string | undefined): string[] {
  return (signature ?? "").split("\n").slice(2)
    .map((entry) => entry.slice(0, entry.lastIndexOf("=")));
}

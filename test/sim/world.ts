/**
 * The mechanics of a simulated mesh: workers come up, load models, run requests,
 * drain and crash; requests queue per model. What should happen is decided by
 * the scalers, which call the same policies and placement as the controller.
 */
import type { Decision } from "../../services/autoscaler/policies/mod.ts";
import type { WeightsSource } from "../../services/autoscaler/placement/mod.ts";
import type { ModelSignals } from "../../services/autoscaler/signals.ts";
import {
  type ClusterNode,
  createNodes,
  giveGpuBack,
  takeGpu,
} from "./cluster.ts";
import { createEventHeap } from "./event_heap.ts";
import { Fifo } from "./fifo.ts";
import { GpuWorker, type SimRequest, type WorkerEvents } from "./gpu_worker.ts";
import type { Measures } from "./measures.ts";
import { classOf, loadMs, type ModelClass, type Profile } from "./profile.ts";
import { createRandom, type Random } from "./random.ts";
import type { Trace, TraceRequest } from "./trace/mod.ts";

export interface SimModel {
  readonly id: number;
  readonly name: string;
  readonly class: ModelClass;
  readonly queue: Fifo<SimRequest>;
  /** Ready workers that hold it and take requests. */
  readonly serving: Set<GpuWorker>;
  running: number;
  arrivals: number;
  /** Integral of requests in the mesh, for the mean since the last decision. */
  requestMs: number;
  touchedMs: number;
  decidedMs: number;
  policyState: unknown;
  decision: Decision<unknown> | undefined;
  /** Requests are held and nothing was serving: a cold start is under way. */
  waking: boolean;
}

type WorldEvent =
  | { readonly kind: "worker"; worker: GpuWorker; version: number }
  | { readonly kind: "ready"; worker: GpuWorker }
  | { readonly kind: "loaded"; worker: GpuWorker; model: number }
  | { readonly kind: "crash"; worker: GpuWorker }
  | { readonly kind: "host"; node: ClusterNode; model: number };

export class World implements WorkerEvents {
  readonly models: SimModel[];
  readonly workers = new Map<number, GpuWorker>();
  readonly nodes: ClusterNode[];
  nowMs = 0;
  /** A worker came up, went away or became free for other models. */
  onChange: (worker: GpuWorker) => void = () => {};
  readonly #heap = createEventHeap<WorldEvent>();
  readonly #random: Random;
  readonly #lengths: Random;
  readonly #factors: Random;
  #workerIds = 0;

  constructor(
    readonly profile: Profile,
    trace: Trace,
    readonly measures: Measures,
    seed: string,
  ) {
    this.#random = createRandom(`${seed}/failures`);
    this.#lengths = createRandom(`${seed}/lengths`);
    this.#factors = createRandom(`${seed}/factors`);
    this.nodes = createNodes(profile);
    this.models = trace.models.map((name, id) => ({
      id,
      name,
      class: classOf(profile, name),
      queue: new Fifo<SimRequest>(),
      serving: new Set<GpuWorker>(),
      running: 0,
      arrivals: 0,
      requestMs: 0,
      touchedMs: 0,
      decidedMs: 0,
      policyState: undefined,
      decision: undefined,
      waking: false,
    }));
  }

  get nextEventMs(): number {
    return this.#heap.nextMs;
  }

  /** Runs the earliest event. */
  step(): void {
    this.nowMs = this.#heap.nextMs;
    const event = this.#heap.pop()!;
    const { kind } = event;
    if (kind === "worker") {
      if (event.version === event.worker.version) this.#runWorker(event.worker);
    } else if (kind === "ready") this.#becomeReady(event.worker);
    else if (kind === "loaded") this.#finishLoad(event.worker, event.model);
    else if (kind === "crash") this.#crash(event.worker);
    else {
      event.node.keepInHost(
        event.model,
        this.models[event.model].class.weightsBytes,
      );
    }
  }

  arrive(request: TraceRequest): SimModel {
    this.nowMs = request.atMs;
    const model = this.models[request.model];
    this.touch(model);
    model.arrivals++;
    this.measures.requests++;
    if (model.queue.length >= this.profile.queueMax) {
      this.measures.fail(request.atMs);
      return model;
    }
    const { lengths } = this.profile;
    model.queue.push({
      arrivedMs: request.atMs,
      model: request.model,
      promptTokens: request.promptTokens ?? this.#draw(
        lengths.promptLogMean,
        lengths.promptLogDeviation,
        lengths.promptTokensMax,
      ),
      outputTokens: request.outputTokens ?? this.#draw(
        lengths.outputLogMean,
        lengths.outputLogDeviation,
        lengths.outputTokensMax,
      ),
      prefillFactor: this.#drawFactor(),
      firstTokenMs: -1,
      doneAtToken: 0,
      joinedAtToken: 0,
    });
    this.dispatch(model);
    return model;
  }

  /** A new worker; with a model it is that model's pod, loads included. */
  startWorker(
    model: SimModel | undefined,
    atOnce = false,
    loaded: readonly SimModel[] = model ? [model] : [],
  ): boolean {
    const { profile } = this;
    const node = takeGpu(this.nodes, profile.gpusPerNode, model?.id);
    if (!node) return false;
    const worker = new GpuWorker(
      this.#workerIds++,
      node,
      this.nowMs,
      profile.weightsBytesPerGpu,
      profile.prefillShare,
      model?.id,
      profile.sideBySide ? this.models.map(({ id }) => id) : [],
    );
    this.workers.set(worker.id, worker);
    this.measures.gpuTaken(this.nowMs, this.#gpuShare(model?.class));
    let startMs = profile.podStartMs + profile.engineInitMs +
      (node.hasImage ? 0 : profile.imagePullMs);
    node.hasImage = true;
    for (const { id, class: modelClass } of loaded) {
      worker.addResident(id, modelClass, this.nowMs);
    }
    if (model) {
      const source = this.#nearest(node, model.id);
      startMs += loadMs(profile, model.class.weightsBytes, source);
    }
    this.#heap.push(this.nowMs + (atOnce ? 0 : startMs), {
      kind: "ready",
      worker,
    });
    return true;
  }

  /** Takes no more requests; gone when the last one has ended. */
  drain(worker: GpuWorker): void {
    worker.draining = true;
    for (const model of worker.residents.keys()) {
      this.models[model].serving.delete(worker);
    }
    if (worker.sequences === 0) this.#release(worker);
  }

  /** Begins to load a model; idle ones named in `evict` make room. */
  load(
    worker: GpuWorker,
    model: SimModel,
    source: WeightsSource,
    evict: readonly number[],
  ): void {
    for (const other of evict) this.unload(worker, other);
    worker.addResident(model.id, model.class, this.nowMs);
    const beginMs = Math.max(this.nowMs, worker.loadingUntilMs);
    worker.loadingUntilMs = beginMs +
      loadMs(this.profile, model.class.weightsBytes, source);
    this.#heap.push(worker.loadingUntilMs, {
      kind: "loaded",
      worker,
      model: model.id,
    });
  }

  /** Puts a model out: at once when idle, else when its last request has ended. */
  unload(worker: GpuWorker, model: number): void {
    const resident = worker.residents.get(model);
    if (!resident) return;
    this.models[model].serving.delete(worker);
    if (resident.sequences > 0 || resident.loading) resident.leaving = true;
    else worker.removeResident(model);
  }

  /** Reads weights from disk into a node's host memory, in the background. */
  prefetch(node: ClusterNode, model: SimModel): void {
    const ms = model.class.weightsBytes / this.profile.diskBytesPerS * 1000;
    this.#heap.push(this.nowMs + ms, { kind: "host", node, model: model.id });
  }

  /** Sends queued requests to the serving worker with the fewest of them. */
  dispatch(model: SimModel): void {
    while (model.queue.length > 0) {
      const worker = this.#freest(model);
      if (!worker) return;
      this.touch(model);
      model.waking = false;
      model.running++;
      worker.start(
        model.queue.shift()!,
        worker.residents.get(model.id)!,
        this.nowMs,
      );
      this.#plan(worker);
    }
  }

  /** Brings the integrals of a model up to now. */
  touch(model: SimModel): void {
    const elapsedMs = this.nowMs - model.touchedMs;
    model.touchedMs = this.nowMs;
    if (elapsedMs <= 0) return;
    const queued = model.queue.length;
    model.requestMs += (model.running + queued) * elapsedMs;
    if (queued > 0) this.measures.overloadedMs += elapsedMs;
  }

  /** What the controller would have gathered; starts a new period. */
  signals(model: SimModel, replicasWanted: number): ModelSignals {
    this.touch(model);
    const elapsedMs = this.nowMs - model.decidedMs;
    const replicasReady = model.serving.size;
    const queued = model.queue.length;
    const signals: ModelSignals = {
      observedAtMs: this.nowMs,
      arrivals: model.arrivals,
      concurrency: elapsedMs > 0
        ? model.requestMs / elapsedMs
        : model.running + queued,
      running: model.running,
      waiting: replicasReady > 0 ? queued : 0,
      held: replicasReady > 0 ? 0 : queued,
      replicasReady,
      replicasStarting: Math.max(0, replicasWanted - replicasReady),
      slotsPerReplica: model.class.slots,
    };
    model.arrivals = 0;
    model.requestMs = 0;
    model.decidedMs = this.nowMs;
    return signals;
  }

  /** Fails requests that waited too long. */
  expire(model: SimModel): void {
    while (model.queue.length > 0) {
      const request = model.queue.peek()!;
      if (this.nowMs - request.arrivedMs <= this.profile.holdMsMax) return;
      this.touch(model);
      model.queue.shift();
      if (request.firstTokenMs < 0) this.measures.fail(request.arrivedMs);
    }
  }

  firstToken(request: SimRequest, nowMs: number): void {
    if (request.firstTokenMs >= 0) return;
    request.firstTokenMs = nowMs;
    this.measures.firstToken(
      request.arrivedMs,
      nowMs + this.profile.overheadMs,
    );
  }

  done(request: SimRequest): void {
    const model = this.models[request.model];
    this.touch(model);
    model.running--;
  }

  #runWorker(worker: GpuWorker): void {
    worker.run(this.nowMs, this);
    let left = false;
    for (const resident of worker.residents.values()) {
      if (resident.leaving && resident.sequences === 0 && !resident.loading) {
        worker.removeResident(resident.model);
        left = true;
        continue;
      }
      const model = this.models[resident.model];
      if (model.queue.length > 0) this.dispatch(model);
    }
    if (worker.draining && worker.sequences === 0) {
      this.#release(worker);
      return;
    }
    this.#plan(worker);
    if (left) this.onChange(worker);
  }

  #plan(worker: GpuWorker): void {
    worker.version++;
    const atMs = worker.nextEventMs();
    if (atMs === Infinity) return;
    this.#heap.push(atMs, { kind: "worker", worker, version: worker.version });
  }

  #freest(model: SimModel): GpuWorker | undefined {
    let best: GpuWorker | undefined;
    for (const worker of model.serving) {
      const resident = worker.residents.get(model.id)!;
      const free = resident.sequences < model.class.slots &&
        worker.sequences < this.profile.sequencesPerGpu;
      if (free && (!best || worker.sequences < best.sequences)) best = worker;
    }
    return best;
  }

  #becomeReady(worker: GpuWorker): void {
    if (worker.gone) return;
    worker.ready = true;
    if (this.profile.workerFailuresPerDay > 0) {
      const lifeMs = this.#random.exponential() * 86_400_000 /
        this.profile.workerFailuresPerDay;
      this.#heap.push(this.nowMs + lifeMs, { kind: "crash", worker });
    }
    for (const model of worker.residents.keys()) {
      this.#finishLoad(worker, model);
    }
    this.onChange(worker);
  }

  #finishLoad(worker: GpuWorker, model: number): void {
    const resident = worker.residents.get(model);
    if (worker.gone || !resident?.loading) return;
    resident.loading = false;
    (worker.node as ClusterNode).diskModels.add(model);
    (worker.node as ClusterNode).keepInHost(model, resident.weightsBytes);
    if (resident.leaving) {
      worker.removeResident(model);
      this.onChange(worker);
      return;
    }
    if (worker.draining) return;
    this.models[model].serving.add(worker);
    this.dispatch(this.models[model]);
  }

  #crash(worker: GpuWorker): void {
    if (worker.gone) return;
    const lost = worker.crash(this.nowMs);
    const byModel = Map.groupBy(lost, (request) => request.model);
    this.drain(worker);
    for (const [id, requests] of byModel) {
      const model = this.models[id];
      this.touch(model);
      model.running -= requests.length;
      model.queue.unshiftAll(requests);
      this.dispatch(model);
    }
  }

  #release(worker: GpuWorker): void {
    if (worker.gone) return;
    worker.gone = true;
    worker.version++;
    this.workers.delete(worker.id);
    this.measures.gpuTaken(
      this.nowMs,
      -this.#gpuShare(
        worker.pod === undefined ? undefined : this.models[worker.pod].class,
      ),
    );
    giveGpuBack(worker.node as ClusterNode);
    this.onChange(worker);
  }

  #gpuShare(modelClass: ModelClass | undefined): number {
    const { sliced, weightsBytesPerGpu } = this.profile;
    if (!sliced || !modelClass) return 1;
    return modelClass.weightsBytes / weightsBytesPerGpu;
  }

  #nearest(node: ClusterNode, model: number): WeightsSource {
    if (node.hostModels.has(model)) return "host";
    return node.diskModels.has(model) ? "disk" : "network";
  }

  /** Without a spread nothing is drawn, so that other draws stay what they are. */
  #drawFactor(): number {
    const { prefillFactors } = this.profile;
    if (prefillFactors.length === 1) return prefillFactors[0];
    const index = Math.floor(this.#factors.next() * prefillFactors.length);
    return prefillFactors[index];
  }

  #draw(logMean: number, deviation: number, max: number): number {
    const tokens = Math.exp(logMean + deviation * this.#lengths.normal());
    return Math.max(1, Math.min(max, Math.round(tokens)));
  }
}

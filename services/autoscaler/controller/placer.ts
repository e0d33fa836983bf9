import { Code, MeshError } from "../../../lib/errors/mesh_error.ts";
import type { ModelSource } from "../crds/mod.ts";
import { backoffMs } from "../kube/mod.ts";
import type { Action } from "../scaling/plan_placement.ts";
import type { ModelFailure } from "../scaling/scaled_model.ts";
import type { CallBounds, WorkerCalls } from "./worker_calls.ts";

export interface PlacerOptions {
  readonly connect: (address: string) => WorkerCalls;
  /** Whether nobody else can lead now. */
  readonly mayAct: () => boolean;
  readonly addressOf: (workerId: string) => string | undefined;
  readonly modelOf: (
    model: string,
  ) => { source: ModelSource; drainMs: number } | undefined;
  readonly nowMs: () => number;
  readonly random: () => number;
  readonly failureOf: (model: string) => ModelFailure | undefined;
  readonly onFailure: (model: string, failure: ModelFailure) => void;
  readonly onNoRoom: (workerId: string, model: string) => void;
  readonly onDone: (action: Action, tookMs: number) => void;
  /** A load has come further. */
  readonly onProgress: (model: string) => void;
}

/** A download over a slow line takes its time; a worker that died ends the call at once. */
const loadMs = 3_600_000;
const wakeMs = 300_000;
const sleepMs = 60_000;
/** For a model that nobody describes any more. */
const strayDrainMs = 30_000;
const progressEveryMs = 3_000;

/**
 * Carries out what placement decided, by calls to the workers.
 *
 * Calls to one worker follow one another, in the order in which they were
 * decided, so that what is ousted is gone before what needs its room comes. A call
 * that fails is not repeated here: the next plan decides with what is known then.
 */
export class Placer implements Disposable {
  readonly #options: PlacerOptions;
  readonly #clients = new Map<string, WorkerCalls>();
  readonly #chains = new Map<string, Promise<void>>();
  /** By worker and model: the action that has the say. */
  readonly #pending = new Map<string, Map<string, Action>>();
  readonly #progress = new Map<string, Map<string, number>>();
  readonly #stop = new AbortController();

  constructor(options: PlacerOptions) {
    this.#options = options;
  }

  /** Models about which calls to this worker are under way or queued. */
  pendingOf(workerId: string): ReadonlySet<string> {
    return new Set(this.#pending.get(workerId)?.keys());
  }

  /** Share of a model's file that each loading worker has. */
  progressOf(model: string): ReadonlyMap<string, number> {
    return this.#progress.get(model) ?? new Map();
  }

  /** Queues the actions; one about a model that is being dealt with there is left out. */
  run(actions: readonly Action[]): void {
    for (const action of actions) {
      const { worker } = action;
      if (this.#pendingAction(action)) continue;
      this.#setPending(action);
      const before = this.#chains.get(worker) ?? Promise.resolve();
      const chain = before.then(() => this.#perform(action));
      this.#chains.set(worker, chain);
      void chain.then(() => {
        if (this.#chains.get(worker) === chain) this.#chains.delete(worker);
      });
    }
  }

  /**
   * Unloads a model that must not stay. A load or wake that is under way is
   * overtaken: the worker stops it for an unload, and it may have an hour to go.
   */
  takeAway(worker: string, model: string, why: string): void {
    const action: Action = { kind: "unload", worker, model, why };
    const current = this.#pendingAction(action);
    if (current?.kind === "unload") return;
    if (!current || current.kind === "sleep") return this.run([action]);
    this.#setPending(action);
    void this.#perform(action);
  }

  /** The worker is gone: its connection is of no more use. */
  drop(address: string): void {
    this.#clients.get(address)?.[Symbol.dispose]();
    this.#clients.delete(address);
  }

  [Symbol.dispose](): void {
    this.#stop.abort(new Error("The controller stops"));
    for (const address of [...this.#clients.keys()]) this.drop(address);
  }

  async #perform(action: Action): Promise<void> {
    const { nowMs, onDone, mayAct } = this.#options;
    const startedMs = nowMs();
    try {
      const isOver = this.#stop.signal.aborted || !mayAct();
      if (isOver) return void this.#settle(action);
      if (!this.#hasSay(action)) return;
      const wasCalled = await this.#call(action);
      const isDone = this.#settle(action) && wasCalled;
      if (isDone) onDone(action, nowMs() - startedMs);
    } catch (reason) {
      // What was overtaken was meant to fail.
      const isOurs = this.#settle(action) && !this.#stop.signal.aborted;
      if (isOurs) this.#fail(action, reason);
    }
  }

  #pendingAction({ worker, model }: Action): Action | undefined {
    return this.#pending.get(worker)?.get(model);
  }

  #setPending(action: Action): void {
    const { worker, model } = action;
    const pending = this.#pending.get(worker) ?? new Map<string, Action>();
    this.#pending.set(worker, pending.set(model, action));
  }

  #hasSay(action: Action): boolean {
    return this.#pendingAction(action) === action;
  }

  /** Whether it had the say until now; overtaken, it leaves that to the other. */
  #settle(action: Action): boolean {
    const { worker, model } = action;
    this.#setProgress(worker, model, undefined);
    if (!this.#hasSay(action)) return false;
    const pending = this.#pending.get(worker);
    pending?.delete(model);
    if (pending?.size === 0) this.#pending.delete(worker);
    return true;
  }

  /** `false`: there is no such worker any more, or nothing is known of the model. */
  async #call({ worker, model, kind }: Action): Promise<boolean> {
    const { addressOf, modelOf } = this.#options;
    const address = addressOf(worker);
    const known = modelOf(model);
    if (address === undefined || (kind === "load" && !known)) return false;
    const calls = this.#clientOf(address);
    const drainMs = known?.drainMs;
    if (kind === "load") await this.#load(calls, { worker, model, ...known! });
    else if (kind === "wake") await calls.wake(model, this.#bounds(wakeMs));
    else if (kind === "sleep") {
      await calls.sleep(model, this.#bounds(drainMs ?? sleepMs));
    } else await this.#unload(calls, model, drainMs ?? strayDrainMs);
    return true;
  }

  async #unload(
    calls: WorkerCalls,
    model: string,
    drainMs: number,
  ): Promise<void> {
    try {
      await calls.unload(model, this.#bounds(drainMs));
    } catch (reason) {
      // It is not there, which is what we want.
      if (MeshError.from(reason).code !== Code.notFound) throw reason;
    }
  }

  #bounds(timeoutMs: number): CallBounds {
    return { timeoutMs, signal: this.#stop.signal };
  }

  async #load(
    calls: WorkerCalls,
    { worker, model, source, drainMs }: {
      readonly worker: string;
      readonly model: string;
      readonly source: ModelSource;
      readonly drainMs: number;
    },
  ): Promise<void> {
    const { signal } = this.#stop;
    const watching = setInterval(
      () => void this.#look(calls, worker, model),
      progressEveryMs,
    );
    try {
      await calls.load(model, source, { timeoutMs: loadMs, signal });
    } catch (reason) {
      if (!isOtherSource(reason)) throw reason;
      // The Model's source was changed: the old weights leave first.
      await calls.unload(model, { timeoutMs: drainMs, signal });
      await calls.load(model, source, { timeoutMs: loadMs, signal });
    } finally {
      clearInterval(watching);
    }
  }

  async #look(
    calls: WorkerCalls,
    worker: string,
    model: string,
  ): Promise<void> {
    const { signal } = this.#stop;
    try {
      const share = await calls.progress(model, { timeoutMs: 2_000, signal });
      if (this.#pending.get(worker)?.has(model)) {
        this.#setProgress(worker, model, share);
      }
    } catch {
      // Progress is for people; whether the load works, the load itself says.
    }
  }

  #setProgress(worker: string, model: string, share: number | undefined): void {
    const known = this.#progress.get(model);
    if (share === undefined) {
      known?.delete(worker);
      if (known?.size === 0) this.#progress.delete(model);
      return;
    }
    if (known?.get(worker) === share) return;
    this.#progress.set(model, (known ?? new Map()).set(worker, share));
    this.#options.onProgress(model);
  }

  #fail({ worker, model, kind }: Action, reason: unknown): void {
    const { nowMs, random, failureOf, onFailure, onNoRoom } = this.#options;
    const error = MeshError.from(reason);
    if (error.code === Code.resourceExhausted) onNoRoom(worker, model);
    const attempts = (failureOf(model)?.attempts ?? 0) + 1;
    onFailure(model, {
      workerId: worker,
      message: `cannot ${kind}: ${error.message}`,
      attempts,
      notBeforeMs: nowMs() +
        backoffMs(attempts, { firstMs: 1_000, maxMs: 60_000, random }),
    });
  }

  #clientOf(address: string): WorkerCalls {
    let client = this.#clients.get(address);
    if (!client) {
      client = this.#options.connect(address);
      this.#clients.set(address, client);
    }
    return client;
  }
}

/** gRPC's `ALREADY_EXISTS`, which our own codes do not name. */
const alreadyExists = 6;

function isOtherSource(reason: unknown): boolean {
  const cause = reason instanceof MeshError
    ? reason.cause as { readonly code?: unknown } | undefined
    : undefined;
  return cause?.code === alreadyExists;
}

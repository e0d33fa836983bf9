/**
 * Models that come and go on a running worker.
 *
 *   absent → loading → running ⇄ asleep, failed from loading or waking, absent by unload.
 *
 * Changes of one model run one after the other; different models do not wait for each
 * other. A load or a wake belongs to the worker, not to the call that asked for it: a
 * caller that goes away may ask again and finds it further on, and only an unload stops
 * it. Whatever fails gives back all it took. A model without an engine takes a few
 * kilobytes, so how many sleep is bounded by `modelsMax` alone.
 */
import { Code, MeshError } from "../errors/mesh_error.ts";
import { isSameSource, type ModelSource } from "../model_source/types.ts";
import { within } from "../within/within.ts";
import type { MemoryBudget, MemoryShare } from "./memory_budget.ts";
import type { PreparedModel } from "./load_models.ts";
import type { ServedModel, ServedModels } from "./served_models.ts";

export interface ModelHostOptions {
  readonly models: ServedModels;
  readonly budget: MemoryBudget;
  /** Brings the source's file here; answers its path. */
  readonly fetchFile: (
    source: ModelSource,
    options: { signal: AbortSignal; onProgress: (share: number) => void },
  ) => Promise<string>;
  readonly prepare: (file: { name: string; path: string }) => PreparedModel;
  /** Told of what changed a model or failed to, for log and metrics. */
  readonly onDone?: (change: ModelChange) => void;
}

export interface ModelChange {
  readonly model: string;
  readonly kind: "load" | "unload" | "sleep" | "wake";
  readonly ms: number;
  /** Sequences that were ended in-band. */
  readonly cut: number;
  readonly error?: MeshError;
}

/** When running sequences must be gone. */
export interface DrainBound {
  /**
   * Aborted when whoever asked has gone: then the model stays. A deadline that has
   * passed is the end of the time, like `ms`.
   */
  readonly signal: AbortSignal;
  readonly ms: number;
}

/** Models of any state on one worker; records and requests name them all. */
const modelsMax = 1_000;

/** How long sequences and loads that were cut may take to say so. */
const farewellMs = 2_000;

/** Share of a load's progress that fetching the file takes. */
const fetchShare = 0.9;

interface Hosted {
  readonly source: ModelSource;
  /** Ends the load or wake that is under way. */
  stop: AbortController;
  prepared?: PreparedModel;
  share?: MemoryShare;
}

export class ModelHost implements AsyncDisposable {
  readonly #options: ModelHostOptions;
  readonly #hosted = new Map<string, Hosted>();
  /** The last change of each model, finished or not. */
  readonly #tails = new Map<string, Promise<unknown>>();
  #closed = false;

  constructor(options: ModelHostOptions) {
    this.#options = options;
  }

  get budget(): MemoryBudget {
    return this.#options.budget;
  }

  /** Resolves when the model runs, or sleeps when that was asked of a new one. */
  load(
    { model, source, asleep }: {
      readonly model: string;
      readonly source: ModelSource;
      readonly asleep: boolean;
    },
  ): Promise<void> {
    return this.#change(model, "load", async () => {
      const known = this.#hosted.get(model);
      if (known === undefined || this.#state(model) === "failed") {
        return await this.#loadNew(model, source, asleep);
      }
      if (!isSameSource(known.source, source)) throw alreadyExists(model);
      if (!asleep) await this.#start(model, known, "waking");
    });
  }

  /** Resolves with the number of sequences that had to be cut. */
  unload(model: string, bound: DrainBound): Promise<number> {
    // A load that is under way would only delay it.
    this.#hosted.get(model)?.stop.abort(stopped(model));
    return this.#change(model, "unload", async () => {
      const hosted = this.#known(model);
      const cut = await this.#stop(model, hosted, bound, () => undefined);
      this.#hosted.delete(model);
      return cut;
    });
  }

  sleep(model: string, bound: DrainBound): Promise<number> {
    return this.#change(model, "sleep", async () => {
      const hosted = this.#known(model);
      const { prepared } = hosted;
      if (prepared === undefined) throw failedBefore(model, "put to sleep");
      return await this.#stop(model, hosted, bound, () => ({
        state: "asleep",
        identity: prepared.identity,
      }));
    });
  }

  wake(model: string): Promise<void> {
    return this.#change(model, "wake", async () => {
      await this.#start(model, this.#known(model), "waking");
    });
  }

  /** Stops what is being loaded, and takes nothing more. */
  stopLoading(): void {
    this.#closed = true;
    for (const [model, { stop }] of this.#hosted) stop.abort(stopped(model));
  }

  /**
   * Waits a little for what was stopped: native code that reads gigabytes of weights
   * cannot be interrupted. The engines that run are the models' to close.
   */
  async [Symbol.asyncDispose](): Promise<void> {
    this.stopLoading();
    await within(farewellMs, Promise.allSettled(this.#tails.values()));
  }

  async #loadNew(
    model: string,
    source: ModelSource,
    asleep: boolean,
  ): Promise<void> {
    const { models, fetchFile, prepare } = this.#options;
    if (models.count >= modelsMax && models.state(model) === undefined) {
      throw tooMany(model);
    }
    const hosted: Hosted = { source, stop: new AbortController() };
    const { signal } = hosted.stop;
    this.#hosted.set(model, hosted);
    const progress = (share: number) =>
      models.setIdle(model, { state: "loading", progress: share * fetchShare });
    progress(0);
    try {
      const path = await fetchFile(source, { signal, onProgress: progress });
      signal.throwIfAborted();
      hosted.prepared = prepare({ name: model, path });
      progress(1);
    } catch (reason) {
      throw this.#failed(model, hosted, reason);
    }
    const { identity } = hosted.prepared;
    if (asleep) models.setIdle(model, { state: "asleep", identity });
    else await this.#start(model, hosted, "loading");
  }

  async #start(
    model: string,
    hosted: Hosted,
    state: "loading" | "waking",
  ): Promise<void> {
    const { models, budget } = this.#options;
    if (models.state(model) === "running") return;
    const { prepared } = hosted;
    if (prepared === undefined) throw failedBefore(model, "woken");
    const { identity } = prepared;
    const { signal } = hosted.stop = new AbortController();
    try {
      hosted.share = budget.take(
        model,
        identity.weightBytes + identity.kvBytes,
      );
      models.setIdle(model, { state, identity, progress: fetchShare });
      const served = await prepared.start();
      if (signal.aborted) {
        await served.engine[Symbol.asyncDispose]();
        throw signal.reason;
      }
      const { engine } = served;
      hosted.share.resize(engine.weightBytes + engine.kvBytes);
      models.add(served);
    } catch (reason) {
      throw this.#failed(model, hosted, reason);
    }
  }

  /** Gives everything back; a model that can be woken later goes on sleeping. */
  #failed(model: string, hosted: Hosted, reason: unknown): MeshError {
    const error = MeshError.from(reason);
    hosted.share?.[Symbol.dispose]();
    hosted.share = undefined;
    const wasAsleep = this.#state(model) === "asleep" ||
      this.#state(model) === "waking";
    const identity = hosted.prepared?.identity;
    if (!wasAsleep) hosted.prepared = undefined;
    this.#options.models.setIdle(model, {
      state: wasAsleep ? "asleep" : "failed",
      identity,
      error: error.message,
    });
    return error;
  }

  /** Ends what runs, closes the engine, and leaves the model in the state given. */
  async #stop(
    model: string,
    hosted: Hosted,
    bound: DrainBound,
    after: () => Parameters<ServedModels["setIdle"]>[1],
  ): Promise<number> {
    const { models } = this.#options;
    const served = models.find(model);
    const cut = served === undefined ? 0 : await this.#drain(served, bound);
    if (served !== undefined) {
      const identity = hosted.prepared?.identity;
      models.setIdle(model, { state: "unloading", identity });
      await served.engine[Symbol.asyncDispose]();
    }
    hosted.share?.[Symbol.dispose]();
    hosted.share = undefined;
    models.setIdle(model, after());
    return cut;
  }

  async #drain(served: ServedModel, bound: DrainBound): Promise<number> {
    const { models } = this.#options;
    const { admission } = served;
    models.startDrain(served);
    const endMs = performance.now() + bound.ms;
    const late = AbortSignal.timeout(Math.max(0, bound.ms));
    await admission.whenIdle(AbortSignal.any([late, bound.signal]));
    // By the clock: a timer that is late on a busy machine must not undo an unload.
    const isEarly = performance.now() < endMs;
    if (admission.running > 0 && isEarly && isGone(bound.signal)) {
      models.reopen(served);
      bound.signal.throwIfAborted();
    }
    const cut = admission.running;
    admission.cutRunning();
    await admission.whenIdle(AbortSignal.timeout(farewellMs));
    return cut;
  }

  #state(model: string) {
    return this.#options.models.state(model);
  }

  #known(model: string): Hosted {
    const hosted = this.#hosted.get(model);
    if (hosted !== undefined) return hosted;
    const known = [...this.#hosted.keys()].join(", ") || "none";
    throw new MeshError(
      Code.notFound,
      `Cannot find model "${model}": this worker has ${known}`,
      { field: "model" },
    );
  }

  #change<T>(
    model: string,
    kind: ModelChange["kind"],
    work: () => Promise<T>,
  ): Promise<T> {
    const before = this.#tails.get(model) ?? Promise.resolve();
    const run = async () => {
      if (this.#closed) throw stopped(model);
      const startMs = performance.now();
      const stateBefore = this.#state(model);
      const done = (cut: number, error?: MeshError) => {
        if (error === undefined && this.#state(model) === stateBefore) return;
        const ms = performance.now() - startMs;
        this.#options.onDone?.({ model, kind, ms, cut, error });
      };
      try {
        const result = await work();
        done(typeof result === "number" ? result : 0);
        return result;
      } catch (reason) {
        const error = MeshError.from(reason);
        done(0, error);
        throw error;
      }
    };
    const result = before.then(run, run);
    const tail = result.then(() => {}, () => {});
    this.#tails.set(model, tail);
    void tail.then(() => {
      if (this.#tails.get(model) === tail) this.#tails.delete(model);
    });
    return result;
  }
}

function isGone({ reason }: AbortSignal): boolean {
  return !(reason instanceof MeshError &&
    reason.code === Code.deadlineExceeded);
}

function alreadyExists(model: string): MeshError {
  return new MeshError(
    Code.alreadyExists,
    `Cannot load model "${model}": this worker has it from another source; unload it first`,
    { field: "source" },
  );
}

function failedBefore(model: string, what: string): MeshError {
  return new MeshError(
    Code.failedPrecondition,
    `Cannot have model "${model}" ${what}: its last load failed; load it again`,
    { field: "model" },
  );
}

function tooMany(model: string): MeshError {
  return new MeshError(
    Code.resourceExhausted,
    `Cannot load model "${model}": this worker knows ${modelsMax} models already`,
    { field: "model" },
  );
}

function stopped(model: string): MeshError {
  return new MeshError(
    Code.unavailable,
    `Cannot go on with model "${model}": its load was stopped by an unload or the worker's end`,
    { field: "model" },
  );
}

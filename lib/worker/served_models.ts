import type { WorkerModel, WorkerModelState } from "../bus/types.ts";
import type { Engine } from "../engine/types.ts";
import { Code, MeshError } from "../errors/mesh_error.ts";
import type { KvLayout } from "../kv_transport/mod.ts";
import { Admission, modelLeaves } from "./admission.ts";

/** One model of this process, with an engine of its own. */
export interface ServedModel {
  readonly name: string;
  readonly engine: Engine;
  readonly layout: KvLayout;
  /** Tokens that end an answer unless a request ignores them. */
  readonly endIds: readonly number[];
  /** Each sequence enters here too, so that the model can leave without the worker. */
  readonly admission: Admission;
}

export function servedModel(
  name: string,
  engine: Engine,
  endIds: readonly number[],
): ServedModel {
  return {
    name,
    engine,
    endIds,
    admission: new Admission(modelLeaves(name)),
    layout: {
      fingerprint: engine.fingerprint,
      kvType: engine.kvType,
      blockTokens: engine.blockTokens,
      layers: engine.layers,
      blockBytes: engine.kvBlockBytes,
    },
  };
}

/** What is known of a model whether or not it runs. */
export interface ModelIdentity {
  readonly fingerprint: string;
  readonly contextLength: number;
  readonly blockTokens: number;
  /** What it takes while it runs, as far as the file tells. */
  readonly weightBytes: number;
  readonly kvBytes: number;
}

/** A model as its worker tells about it. */
export interface ModelReport {
  readonly record: WorkerModel;
  /** Why the last load or wake failed; empty otherwise. */
  readonly error: string;
  /** 0..1 while it is fetched and loaded; 1 afterwards. */
  readonly progress: number;
}

/** A state without an engine behind it. */
export interface IdleState {
  readonly state: Exclude<WorkerModelState, "running">;
  readonly identity?: ModelIdentity;
  readonly error?: string;
  readonly progress?: number;
}

export interface ModelListener {
  /** Its engine is there. */
  came?(model: ServedModel): void;
  /** Nothing runs on its engine any more, which is closed next. */
  left?(model: ServedModel): void;
  /** Any change of any model's state. */
  changed?(): void;
}

interface Entry extends Omit<IdleState, "state"> {
  readonly state: WorkerModelState;
  readonly served?: ServedModel;
}

/** The models of one process, by name: those that run, and what became of the others. */
export class ServedModels implements AsyncDisposable {
  readonly #entries = new Map<string, Entry>();
  readonly #listeners = new Set<ModelListener>();
  /** Whether those of the start are still on their way. */
  loading = false;

  constructor(models: Iterable<ServedModel> = []) {
    for (const model of models) this.add(model);
  }

  /** Models of any state. */
  get count(): number {
    return this.#entries.size;
  }

  /** It runs from now on. */
  add(model: ServedModel): void {
    this.#entries.set(model.name, { state: "running", served: model });
    for (const listener of this.#listeners) listener.came?.(model);
    this.#changed();
  }

  /** Takes no new sequences; those that run are to be ended by its admission. */
  startDrain(model: ServedModel): void {
    model.admission.startDrain();
    this.#entries.set(model.name, { state: "unloading", served: model });
    this.#changed();
  }

  /** The drain was called off. */
  reopen(model: ServedModel): void {
    model.admission.reopen();
    this.#entries.set(model.name, { state: "running", served: model });
    this.#changed();
  }

  /** Nothing of it is running here, or no more; `undefined` forgets it. */
  setIdle(name: string, idle: IdleState | undefined): void {
    const before = this.#entries.get(name);
    if (idle === undefined) this.#entries.delete(name);
    else this.#entries.set(name, idle);
    if (before?.served !== undefined) {
      for (const listener of this.#listeners) listener.left?.(before.served);
    }
    this.#changed();
  }

  state(name: string): WorkerModelState | undefined {
    return this.#entries.get(name)?.state;
  }

  /** The running or draining model. */
  find(name: string): ServedModel | undefined {
    return this.#entries.get(name)?.served;
  }

  /** Told of changes from now on; `came` for each model there is already, too. */
  listen(listener: ModelListener): Disposable {
    for (const model of this) listener.came?.(model);
    this.#listeners.add(listener);
    return { [Symbol.dispose]: () => void this.#listeners.delete(listener) };
  }

  /** Those with an engine. */
  *[Symbol.iterator](): Iterator<ServedModel> {
    for (const { served } of [...this.#entries.values()]) {
      if (served !== undefined) yield served;
    }
  }

  /** Throws `notFound`, naming what there is, or `unavailable` for one that does not run now. */
  get(name: string): ServedModel {
    const entry = this.#entries.get(name);
    if (entry?.state === "running") return entry.served!;
    if (entry !== undefined) throw notRunning(name, entry);
    if (this.loading) {
      throw new MeshError(
        Code.unavailable,
        `Cannot run model "${name}": this worker is still loading its models`,
        { field: "model", retryAfterMs: 500 },
      );
    }
    const known = [...this.#entries.keys()].join(", ") || "none";
    throw new MeshError(
      Code.notFound,
      `Cannot run model "${name}": this worker has ${known}`,
      { field: "model" },
    );
  }

  reports(): ModelReport[] {
    return [...this.#entries].map(([name, entry]) => ({
      record: recordOf(name, entry),
      error: entry.error ?? "",
      progress: entry.progress ?? 1,
    }));
  }

  /** As the worker's record tells them to the mesh. */
  records(): WorkerModel[] {
    return [...this.#entries].map(([name, entry]) => recordOf(name, entry));
  }

  #changed(): void {
    for (const listener of this.#listeners) listener.changed?.();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const { engine } of this) await engine[Symbol.asyncDispose]();
  }
}

function recordOf(
  model: string,
  { state, served, identity }: Entry,
): WorkerModel {
  const engine = served?.engine;
  const known = engine ?? identity;
  return {
    model,
    state,
    fingerprint: known?.fingerprint ?? "",
    contextLength: known?.contextLength ?? 0,
    blockTokens: known?.blockTokens ?? 0,
    weightBytes: known?.weightBytes ?? 0,
    kvBytes: known?.kvBytes ?? 0,
    ...(engine?.status() ?? nothingRuns),
  };
}

const nothingRuns = {
  blocksTotal: 0,
  blocksFree: 0,
  running: 0,
  waiting: 0,
  prefillTokensPerS: 0,
  decodeTokensPerS: 0,
};

const stateTexts: Record<Exclude<WorkerModelState, "running">, string> = {
  loading: "it is being loaded",
  asleep: "it is asleep on this worker",
  waking: "it is waking up",
  failed: "it could not be loaded on this worker",
  unloading: "it is leaving this worker",
};

function notRunning(name: string, { state }: Entry): MeshError {
  const why = stateTexts[state as keyof typeof stateTexts];
  return new MeshError(
    Code.unavailable,
    `Cannot run model "${name}": ${why}`,
    { field: "model", retryAfterMs: 500 },
  );
}

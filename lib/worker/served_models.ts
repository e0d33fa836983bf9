import type { WorkerModel } from "../bus/types.ts";
import type { Engine } from "../engine/types.ts";
import { Code, MeshError } from "../errors/mesh_error.ts";
import type { KvLayout } from "../kv_transport/mod.ts";

/** One model of this process, with an engine of its own. */
export interface ServedModel {
  readonly name: string;
  readonly engine: Engine;
  readonly layout: KvLayout;
  /** Tokens that end an answer unless a request ignores them. */
  readonly endIds: readonly number[];
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
    layout: {
      fingerprint: engine.fingerprint,
      blockTokens: engine.blockTokens,
      layers: engine.layers,
      blockBytes: engine.kvBlockBytes,
    },
  };
}

/** The models of one process, by name. */
export class ServedModels implements AsyncDisposable {
  readonly #models = new Map<string, ServedModel>();
  readonly #listeners = new Set<(model: ServedModel) => void>();
  /** Whether more models are on their way. */
  loading = false;

  constructor(models: Iterable<ServedModel> = []) {
    for (const model of models) this.add(model);
  }

  add(model: ServedModel): void {
    this.#models.set(model.name, model);
    for (const listener of this.#listeners) listener(model);
  }

  /** Told of each model there is, now and later. */
  onModel(listener: (model: ServedModel) => void): Disposable {
    for (const model of this) listener(model);
    this.#listeners.add(listener);
    return { [Symbol.dispose]: () => void this.#listeners.delete(listener) };
  }

  [Symbol.iterator](): Iterator<ServedModel> {
    return this.#models.values();
  }

  /** Throws `notFound`, naming what there is, or `unavailable` while models load. */
  get(name: string): ServedModel {
    const model = this.#models.get(name);
    if (model !== undefined) return model;
    if (this.loading) {
      throw new MeshError(
        Code.unavailable,
        `Cannot run model "${name}": this worker is still loading its models`,
        { field: "model", retryAfterMs: 500 },
      );
    }
    const known = [...this.#models.keys()].join(", ") || "none";
    throw new MeshError(
      Code.notFound,
      `Cannot run model "${name}": this worker has ${known}`,
      { field: "model" },
    );
  }

  /** As the worker's record tells them to the mesh. */
  records(): WorkerModel[] {
    return [...this].map(({ name, engine }) => ({
      model: name,
      state: "running",
      weightBytes: 0,
      kvBytes: 0,
      fingerprint: engine.fingerprint,
      contextLength: engine.contextLength,
      blockTokens: engine.blockTokens,
      ...engine.status(),
    }));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const { engine } of this) await engine[Symbol.asyncDispose]();
  }
}

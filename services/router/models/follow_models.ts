import { setTimeout as delay } from "node:timers/promises";
import type { Bus, ModelEntry } from "../../../lib/bus/mod.ts";
import {
  type ModelSource,
  parseSource,
} from "../../../lib/model_source/mod.ts";
import type { Logger } from "../../../lib/telemetry/mod.ts";
import type { ModelCatalog, ServedModel } from "../core/mod.ts";

export interface FollowModelsOptions {
  readonly bus: Bus;
  readonly catalog: ModelCatalog;
  readonly logger: Logger;
  /** Gets the file here and reads it; told how far it is. */
  readonly load: (
    model: { readonly name: string; readonly source: ModelSource },
    options: { signal: AbortSignal; onProgress: (share: number) => void },
  ) => Promise<ServedModel>;
  /** After the first failure, doubling to a minute, ms; 1,000 unless set. */
  readonly retryMs?: number;
  /** In [0, 1); spreads the attempts of many routers. */
  readonly random: () => number;
}

const retryMsMax = 60_000;

/** Keeps the catalog as the bucket `models` says, until disposed. */
export function followModels(options: FollowModelsOptions): AsyncDisposable {
  const { bus, catalog, logger } = options;
  const stop = new AbortController();
  const followed = new Map<string, FollowedModel>();

  function put(entry: ModelEntry): void {
    const { model } = entry;
    if (catalog.isFixed(model)) return;
    const known = followed.get(model);
    if (known?.take(entry)) return;
    remove(model);
    try {
      const source = parseSource(entry.source);
      followed.set(model, new FollowedModel(entry, source, options));
    } catch (reason) {
      logger.warn({ model, err: reason }, "Cannot use the model's entry");
      const why = (reason as Error).message;
      catalog.set(model, {
        aliases: entry.aliases ?? [],
        model: { kind: "not-ready", reason: why },
      });
    }
  }

  function remove(model: string): void {
    followed.get(model)?.[Symbol.dispose]();
    followed.delete(model);
    catalog.remove(model);
  }

  const following = (async () => {
    for await (const change of bus.watchModels(stop.signal)) {
      if (change.kind === "put") put(change.entry);
      else remove(change.model);
    }
  })().catch((reason) => {
    if (!stop.signal.aborted) {
      logger.error({ err: reason }, "Following the models failed");
    }
  });
  return {
    async [Symbol.asyncDispose]() {
      stop.abort();
      for (const model of followed.values()) model[Symbol.dispose]();
      await following;
    },
  };
}

/** One model of the bucket, loaded in the background for as long as it takes. */
class FollowedModel implements Disposable {
  readonly #options: FollowModelsOptions;
  readonly #source: ModelSource;
  readonly #stop = new AbortController();
  #entry: ModelEntry;
  #served: ServedModel | undefined;

  constructor(
    entry: ModelEntry,
    source: ModelSource,
    options: FollowModelsOptions,
  ) {
    this.#options = options;
    this.#entry = entry;
    this.#source = source;
    this.#show("its file is being read");
    void this.#load();
  }

  /** The new entry, unless its file is another one: then a new follower is needed. */
  take(entry: ModelEntry): boolean {
    const { path, url, sha256 } = entry.source;
    const before = this.#entry.source;
    const isSame = path === before.path && url === before.url &&
      sha256 === before.sha256;
    if (!isSame) return false;
    this.#entry = entry;
    this.#show();
    return true;
  }

  [Symbol.dispose](): void {
    this.#stop.abort();
  }

  async #load(): Promise<void> {
    const { load, logger, random, retryMs = 1_000 } = this.#options;
    const { signal } = this.#stop;
    const { model } = this.#entry;
    for (let waitMs = retryMs; !signal.aborted;) {
      try {
        this.#served = await load({ name: model, source: this.#source }, {
          signal,
          onProgress: (share) =>
            this.#show(`its file is ${Math.floor(share * 100)} % here`),
        });
        this.#show();
        logger.info({ model }, "The model can be asked");
        return;
      } catch (reason) {
        if (signal.aborted) return;
        logger.warn({ model, err: reason }, "Cannot read the model yet");
        this.#show((reason as Error).message);
      }
      await delay(waitMs * (0.5 + random()), undefined, { signal })
        .catch(() => {
          // Ended: the loop sees it.
        });
      waitMs = Math.min(2 * waitMs, retryMsMax);
    }
  }

  #reason = "";

  #show(reason = this.#reason): void {
    this.#reason = reason;
    if (this.#stop.signal.aborted) return;
    const { catalog } = this.#options;
    const { model, aliases = [] } = this.#entry;
    catalog.set(model, {
      aliases,
      model: this.#served === undefined
        ? { kind: "not-ready", reason }
        : { kind: "ready", served: this.#served },
    });
  }
}

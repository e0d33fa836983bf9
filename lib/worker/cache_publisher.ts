import type { Bus } from "../bus/types.ts";
import type { ServedModel, ServedModels } from "./served_models.ts";

/**
 * Tells the mesh which KV blocks this worker can reuse.
 *
 * Changes are gathered for a few milliseconds per model and published as one numbered
 * event. A reader that misses a number asks for a dump, which carries the number
 * of the last event that went into it. A model that leaves takes all its blocks back; the
 * numbers go on when it returns, for a reader may not have noticed.
 */
export class CachePublisher implements Disposable {
  readonly #feeds = new Map<string, CacheFeed>();
  readonly #numbers = new Map<string, number>();
  readonly #dump: Disposable;
  readonly #newModels: Disposable;

  constructor({ bus, workerId, models, gatherMs = 20 }: {
    readonly bus: Bus;
    readonly workerId: string;
    readonly models: ServedModels;
    /** Changes within this time share an event, ms. */
    readonly gatherMs?: number;
  }) {
    this.#newModels = models.listen({
      came: (model) => {
        const feed = new CacheFeed(model, {
          gatherMs,
          number: this.#numbers.get(model.name) ?? 0,
          publish: (event) =>
            bus.publishKv({ workerId, model: model.name, ...event }),
        });
        this.#feeds.set(model.name, feed);
      },
      left: ({ name }) => {
        this.#numbers.set(name, this.#feeds.get(name)?.takeBack() ?? 0);
        this.#feeds.get(name)?.[Symbol.dispose]();
        this.#feeds.delete(name);
      },
    });
    this.#dump = bus.serveKvDump(workerId, () => ({
      workerId,
      models: [...this.#feeds.values()].map((feed) => feed.dump()),
    }));
  }

  [Symbol.dispose](): void {
    this.#dump[Symbol.dispose]();
    this.#newModels[Symbol.dispose]();
    for (const feed of this.#feeds.values()) feed[Symbol.dispose]();
  }
}

type FeedEvent = { number: number; stored: string[]; removed: string[] };

/** Most hashes in one event; NATS takes 1 MiB, a hash is 64 characters. */
const hashesMax = 4_096;

class CacheFeed implements Disposable {
  readonly #model: ServedModel;
  readonly #publish: (event: FeedEvent) => void;
  readonly #gatherMs: number;
  readonly #subscription: Disposable;
  /** Last state of each hash that changed since the last event: held or gone. */
  readonly #changes = new Map<string, boolean>();
  #timer: ReturnType<typeof setTimeout> | undefined;
  #number: number;

  constructor(
    model: ServedModel,
    { gatherMs, number, publish }: {
      readonly gatherMs: number;
      /** Of the last event about this model. */
      readonly number: number;
      readonly publish: (event: FeedEvent) => void;
    },
  ) {
    this.#model = model;
    this.#gatherMs = gatherMs;
    this.#number = number;
    this.#publish = publish;
    this.#subscription = model.engine.onCacheChange(({ stored, removed }) => {
      for (const hash of removed) this.#changes.set(hash, false);
      for (const hash of stored) this.#changes.set(hash, true);
      this.#timer ??= setTimeout(() => this.#flush(), this.#gatherMs);
    });
  }

  /** Publishes what is pending first, so that the dump's number covers it. */
  dump() {
    this.#flush();
    return {
      model: this.#model.name,
      number: this.#number,
      hashes: this.#model.engine.cachedHashes(),
    };
  }

  /** Says that no block is held any more; answers the number of the last event. */
  takeBack(): number {
    this.#flush();
    for (const hash of this.#model.engine.cachedHashes()) {
      this.#changes.set(hash, false);
    }
    this.#flush();
    return this.#number;
  }

  #flush(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const changes = [...this.#changes];
    this.#changes.clear();
    for (let begin = 0; begin < changes.length; begin += hashesMax) {
      const part = changes.slice(begin, begin + hashesMax);
      const hashes = (held: boolean) =>
        part.filter((change) => change[1] === held).map(([hash]) => hash);
      this.#publish({
        number: ++this.#number,
        stored: hashes(true),
        removed: hashes(false),
      });
    }
  }

  [Symbol.dispose](): void {
    this.#subscription[Symbol.dispose]();
    clearTimeout(this.#timer);
  }
}

import type { Informers } from "./context.ts";
import type { ObjectChange } from "./informers.ts";

export interface TriggersOptions {
  /** Queues the object `kind/name`. */
  readonly add: (key: string) => void;
  readonly informers: () => Informers | undefined;
  /** Objects whose spec was refused, by key. */
  readonly invalid: ReadonlySet<string>;
}

/**
 * What happens, as keys of objects to look at again.
 *
 * Level-based: a key says that something about an object may have changed, and
 * nothing about what.
 */
export class Triggers {
  readonly #options: TriggersOptions;
  #isOpen = false;

  constructor(options: TriggersOptions) {
    this.#options = options;
  }

  /** Before everything is known, the number of pods there are may look like none. */
  open(): void {
    this.#isOpen = true;
  }

  model(name: string): void {
    this.#add(`model/${name}`);
  }

  pool(name: string): void {
    this.#add(`pool/${name}`);
  }

  all(): void {
    const { models, pools, jobs } = this.#options.informers() ?? {};
    for (const { metadata } of pools?.list() ?? []) this.pool(metadata.name);
    for (const { metadata } of models?.list() ?? []) this.model(metadata.name);
    for (const { metadata } of jobs?.list() ?? []) {
      this.#add(`job/${metadata.name}`);
    }
  }

  objectChanged({ kind, name, owner, specChanged }: ObjectChange): void {
    if (kind === "owned") {
      if (owner) this.pool(owner);
      return;
    }
    if (!specChanged) return;
    this.#add(`${kind}/${name}`);
    if (kind === "job") return;
    // Names and pools may clash with those of other Models: look again at who was refused.
    for (const key of this.#options.invalid) this.#add(key);
    if (kind === "pool") this.#modelsOf(name);
    else this.#poolsOf(name);
  }

  #modelsOf(pool: string): void {
    for (
      const { metadata, spec } of this.#options.informers()?.models.list() ?? []
    ) {
      if (spec?.pool === pool || spec?.prefillPool === pool) {
        this.model(metadata.name);
      }
    }
  }

  #poolsOf(model: string): void {
    const { spec } = this.#options.informers()?.models.get(model) ?? {};
    for (const pool of [spec?.pool, spec?.prefillPool]) {
      if (pool) this.pool(pool);
    }
  }

  #add(key: string): void {
    if (this.#isOpen) this.#options.add(key);
  }
}

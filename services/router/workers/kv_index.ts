import type { KvDump, KvEvent } from "../../../lib/bus/types.ts";

export interface KvIndexOptions {
  /** Asks a worker for everything it holds; `undefined` when it did not answer. */
  requestDump(workerId: string): Promise<KvDump | undefined>;
  /** Hashes remembered per worker and model; the oldest are forgotten first. */
  hashesMax: number;
  /** Whether the worker is there: one that has gone may still be heard of. */
  isLive?(workerId: string): boolean;
}

/**
 * Which worker holds which KV blocks: a hint for routing, never a promise.
 *
 * Workers publish numbered changes. A number that is not the next one means that
 * something was lost (or the worker restarted): the index keeps using what it
 * knows, asks once for a dump, and applies the changes that came meanwhile and
 * are newer than it. A wrong hint costs a slower route and nothing else.
 */
export class KvIndex {
  readonly #options: KvIndexOptions;
  readonly #holdings = new Map<string, Holding>();
  readonly #dumps = new Set<string>();

  constructor(options: KvIndexOptions) {
    this.#options = options;
  }

  /** Workers and models of which anything is known. */
  get holdingCount(): number {
    return this.#holdings.size;
  }

  apply(event: KvEvent): void {
    if (!this.#isLive(event.workerId)) return;
    const holding = this.#holding(event.workerId, event.model);
    if (holding.missed !== undefined) {
      if (holding.missed.length < missedMax) holding.missed.push(event);
      return;
    }
    if (event.number === holding.number + 1) {
      return this.#change(holding, event);
    }
    holding.missed = [event];
    void this.repair(event.workerId);
  }

  /** Leading tokens of the hashed blocks that the worker holds. */
  matchedBlocks(
    workerId: string,
    model: string,
    hashes: readonly string[],
  ): number {
    const held = this.#holdings.get(key(workerId, model))?.hashes;
    if (held === undefined) return 0;
    let count = 0;
    while (count < hashes.length && held.has(hashes[count])) count++;
    return count;
  }

  forget(workerId: string): void {
    for (const [name, holding] of this.#holdings) {
      if (holding.workerId === workerId) this.#holdings.delete(name);
    }
  }

  forgetModel(workerId: string, model: string): void {
    this.#holdings.delete(key(workerId, model));
  }

  /** Fetches everything one worker holds; one request at a time per worker. */
  async repair(workerId: string): Promise<void> {
    if (this.#dumps.has(workerId)) return;
    this.#dumps.add(workerId);
    const dump = await this.#options.requestDump(workerId);
    this.#dumps.delete(workerId);
    if (dump && this.#isLive(workerId)) this.#replace(dump);
    this.#settle(workerId, dump !== undefined);
  }

  #isLive(workerId: string): boolean {
    return this.#options.isLive?.(workerId) ?? true;
  }

  #replace(dump: KvDump): void {
    const dumped = new Set(dump.models.map(({ model }) => model));
    for (const [name, { workerId, model }] of this.#holdings) {
      // What is not in the dump has left the worker.
      if (workerId === dump.workerId && !dumped.has(model)) {
        this.#holdings.delete(name);
      }
    }
    for (const { model, number, hashes } of dump.models) {
      const holding = this.#holding(dump.workerId, model);
      holding.hashes = new Set(hashes.slice(-this.#options.hashesMax));
      holding.number = number;
    }
  }

  /**
   * Applies what came while the dump was on its way. Another gap in there asks
   * again at once; without an answer the next event does.
   */
  #settle(workerId: string, answered: boolean): void {
    for (const holding of this.#holdings.values()) {
      if (holding.workerId !== workerId || holding.missed === undefined) {
        continue;
      }
      const newer = holding.missed.filter(({ number }) =>
        number > holding.number
      );
      holding.missed = undefined;
      for (const event of newer) {
        if (answered) this.apply(event);
        else this.#change(holding, event);
      }
      // No number follows this one, so that the next event shows a gap.
      if (!answered) holding.number = -1;
    }
  }

  #change(holding: Holding, event: KvEvent): void {
    const { hashes } = holding;
    for (const hash of event.removed) hashes.delete(hash);
    for (const hash of event.stored) hashes.add(hash);
    holding.number = event.number;
    for (const oldest of hashes) {
      if (hashes.size <= this.#options.hashesMax) break;
      hashes.delete(oldest);
    }
  }

  #holding(workerId: string, model: string): Holding {
    const name = key(workerId, model);
    let holding = this.#holdings.get(name);
    if (holding === undefined) {
      holding = {
        workerId,
        model,
        number: 0,
        hashes: new Set(),
        missed: undefined,
      };
      this.#holdings.set(name, holding);
    }
    return holding;
  }
}

/** Changes kept while a dump is on its way; later ones only cost routing quality. */
const missedMax = 1_000;

interface Holding {
  readonly workerId: string;
  readonly model: string;
  /** Of the last change; -1 when nothing is certain. */
  number: number;
  hashes: Set<string>;
  /** Present while a dump is on its way. */
  missed: KvEvent[] | undefined;
}

function key(workerId: string, model: string): string {
  return `${workerId} ${model}`;
}

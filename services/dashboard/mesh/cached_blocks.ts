import type { KvDump, KvEvent } from "../../../lib/bus/mod.ts";

interface Count {
  number: number;
  blocks: number;
}

/**
 * How many blocks each worker's prefix cache holds, counted from its events.
 *
 * Only counted, never kept: a mesh may announce millions of hashes. Workers tell each block once
 * when it comes and once when it goes, so the difference is exact from a dump on.
 */
export class CachedBlocks {
  readonly #counts = new Map<string, Map<string, Count>>();

  /** Nothing is known of this worker yet. */
  wants(workerId: string): boolean {
    if (this.#counts.has(workerId)) return false;
    this.#counts.set(workerId, new Map());
    return true;
  }

  /** Answers false after a gap: a dump is needed then. */
  take({ workerId, model, number, stored, removed }: KvEvent): boolean {
    const models = this.#counts.get(workerId);
    if (models === undefined) return false;
    const count = models.get(model) ?? { number: number - 1, blocks: 0 };
    const isNext = number === count.number + 1;
    const isOld = number <= count.number;
    if (isOld) return true;
    count.number = number;
    count.blocks = Math.max(0, count.blocks + stored.length - removed.length);
    models.set(model, count);
    return isNext;
  }

  dumped({ workerId, models }: KvDump): void {
    this.#counts.set(
      workerId,
      new Map(
        models.map(({ model, number, hashes }) => [
          model,
          { number, blocks: hashes.length },
        ]),
      ),
    );
  }

  forget(workerId: string): void {
    this.#counts.delete(workerId);
  }

  count(workerId: string, model: string): number | null {
    return this.#counts.get(workerId)?.get(model)?.blocks ?? null;
  }
}

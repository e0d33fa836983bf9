import type { WorkerRecord } from "../../../lib/bus/types.ts";
import type { PlacementMemory, PoolWorker } from "./plan_placement.ts";

/**
 * Since when models have been where they are, and when they were last used there.
 *
 * All of it is a convenience: a new leader knows nothing of the past and only
 * chooses a little worse for a while.
 */
export class PlacementHistory implements PlacementMemory {
  readonly sinceMs = new Map<string, number>();
  readonly usedMs = new Map<string, number>();
  readonly onDisk = new Map<string, Set<string>>();

  look(workers: readonly WorkerRecord[], nowMs: number): void {
    const present = new Set<string>();
    for (const { workerId, models } of workers) {
      for (const { model, state, running, waiting } of models) {
        const key = `${workerId} ${model}`;
        present.add(key);
        if (state === "running" && !this.sinceMs.has(key)) {
          this.sinceMs.set(key, nowMs);
        }
        if (running + waiting > 0) this.usedMs.set(key, nowMs);
      }
    }
    for (const map of [this.sinceMs, this.usedMs]) {
      for (const key of map.keys()) if (!present.has(key)) map.delete(key);
    }
  }

  /** Who serves a model has read its file, so its node has it. */
  haveFiles(workers: readonly PoolWorker[]): void {
    for (const { node, models } of workers) {
      for (const { model, state } of models) {
        if (state === "running") this.#hasFile(node, model);
      }
    }
  }

  #hasFile(node: string, model: string): void {
    const models = this.onDisk.get(node) ?? new Set();
    this.onDisk.set(node, models.add(model));
  }
}

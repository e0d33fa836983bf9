import type { ModelSpec } from "../crds/mod.ts";
import type { ScaledModel } from "./scaled_model.ts";

/** Models by the pools that they name. */
export class PoolMembers {
  readonly #models = new Map<string, Set<ScaledModel>>();

  add(model: ScaledModel): void {
    for (const pool of namedBy(model.spec)) {
      const models = this.#models.get(pool) ?? new Set<ScaledModel>();
      this.#models.set(pool, models.add(model));
    }
  }

  /** Call it before the model's spec changes. */
  delete(model: ScaledModel): void {
    for (const pool of namedBy(model.spec)) {
      const models = this.#models.get(pool);
      models?.delete(model);
      if (models?.size === 0) this.#models.delete(pool);
    }
  }

  of(pool: string): ScaledModel[] {
    return [...this.#models.get(pool) ?? []];
  }

  poolsOf(model: ScaledModel): string[] {
    return namedBy(model.spec);
  }
}

function namedBy({ pool, prefillPool }: ModelSpec): string[] {
  return prefillPool ? [pool, prefillPool] : [pool];
}

import type { ScaledModel } from "./scaled_model.ts";
import type { ScaledPool } from "./scaled_pool.ts";

export interface StirringOptions {
  readonly nowMs: () => number;
  /** Those that a model names and that are there. */
  readonly poolsOf: (model: ScaledModel) => readonly ScaledPool[];
}

/**
 * Who does not rest.
 *
 * News of a model concern its pools as well, so a pool rests only while all of
 * its models do.
 */
export class Stirring {
  readonly models = new Set<ScaledModel>();
  readonly pools = new Set<ScaledPool>();
  readonly #options: StirringOptions;

  constructor(options: StirringOptions) {
    this.#options = options;
  }

  stir(model: ScaledModel): void {
    this.models.add(model);
    this.stirPoolsOf(model);
  }

  stirPoolsOf(model: ScaledModel): void {
    for (const pool of this.#options.poolsOf(model)) this.stirPool(pool);
  }

  stirPool(pool: ScaledPool): void {
    pool.stir(this.#options.nowMs());
    this.pools.add(pool);
  }

  /** Unless one of its models stirs. */
  restPool(pool: ScaledPool, models: readonly ScaledModel[]): void {
    if (models.some((model) => this.models.has(model))) return;
    pool.rest();
    this.pools.delete(pool);
  }
}

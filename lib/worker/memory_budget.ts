import { totalmem } from "node:os";
import process from "node:process";
import { deviceModelBytes } from "../engine/backend.ts";
import type { Native } from "../engine/native.ts";
import { Code, MeshError } from "../errors/mesh_error.ts";
import type { EngineConfig } from "./config.ts";

/**
 * What the models of one worker may take together.
 *
 * A model takes its share before anything of it is loaded, so two loads at once cannot
 * both count on the same bytes. Free plus taken never changes.
 */
export class MemoryBudget {
  readonly bytesTotal: number;
  #taken = 0;

  constructor(bytesTotal: number) {
    this.bytesTotal = bytesTotal;
  }

  /** Never below 0: a model may turn out a little larger than was planned. */
  get bytesFree(): number {
    return Math.max(0, this.bytesTotal - this.#taken);
  }

  /** Throws `resourceExhausted` with both numbers when less is free. */
  take(model: string, bytes: number): MemoryShare {
    if (bytes > this.bytesFree) {
      throw new MeshError(
        Code.resourceExhausted,
        `Cannot load model "${model}": needs ${bytes} bytes of memory, ` +
          `${this.bytesFree} of ${this.bytesTotal} are free`,
        { field: "model" },
      );
    }
    this.#taken += bytes;
    let held = bytes;
    const resize = (to: number) => {
      this.#taken += to - held;
      held = to;
    };
    return { resize, [Symbol.dispose]: () => resize(0) };
  }
}

/** Goes back when disposed. */
export interface MemoryShare extends Disposable {
  /** To what the model really takes. */
  resize(bytes: number): void;
}

/** What models may take when nothing was set: most of the memory that they lie in. */
export function defaultModelBytes(
  { backend, isa }: Pick<EngineConfig, "backend" | "isa">,
  native: Native,
): number {
  const device = backend === "cpu" || isa !== undefined
    ? undefined
    : native.cuda?.();
  // A GPU that is asked for and missing is the first load's to complain about.
  return device === undefined || device.missing !== undefined
    ? hostModelBytes()
    : deviceModelBytes(device);
}

/** Four fifths of what this process may have: the rest is for activations and JavaScript. */
function hostModelBytes(): number {
  // The limit of a container where there is one; without, some runtimes say 0 or 2^64.
  const limit = process.constrainedMemory?.() ?? 0;
  const bytes = limit > 0 && limit < totalmem() ? limit : totalmem();
  return Math.floor(bytes * 0.8);
}

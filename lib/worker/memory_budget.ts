import { Code, MeshError } from "../errors/mesh_error.ts";

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

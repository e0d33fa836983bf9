/**
 * Picks tensors out of a GGUF file by name and checks each against the shape that
 * the metadata asks for. Every tensor must be picked: one that is left over would
 * mean that the file holds a model we do not compute.
 */
import { Code, MeshError } from "../../errors/mesh_error.ts";
import {
  dequantizedTypeIds,
  ggmlTypeName,
  type GgufFile,
  type GgufTensor,
} from "../../gguf/mod.ts";
import type { WeightSpec } from "../native.ts";
import type { WeightId } from "../program.ts";

/** Weight types that the kernels multiply with (kernels/include/weight_format.h). */
const matrixTypes: ReadonlyMap<number, string> = new Map(
  dequantizedTypeIds.map((id) => [id, ggmlTypeName(id)]),
);
const vectorTypes: ReadonlyMap<number, string> = new Map([[0, "F32"]]);

export class WeightList {
  readonly weights: WeightSpec[] = [];
  readonly #file: GgufFile;
  readonly #idByName = new Map<string, WeightId>();

  constructor(file: GgufFile) {
    this.#file = file;
  }

  has(name: string): boolean {
    return this.#file.tensors.has(name);
  }

  /** `[rows, cols]` weights of a matmul or a token table. */
  matrix(name: string, shape: { rows: number; cols: number }): WeightId {
    return this.#pick(name, [shape.cols, shape.rows], matrixTypes);
  }

  vector(name: string, length: number): WeightId {
    return this.#pick(name, [length], vectorTypes);
  }

  optionalVector(name: string, length: number): WeightId | undefined {
    return this.has(name) ? this.vector(name, length) : undefined;
  }

  /** Throws when a tensor was not picked, unless its name matches `ignored`. */
  refuseOthers(ignored: RegExp): void {
    for (const name of this.#file.tensors.keys()) {
      if (this.#idByName.has(name) || ignored.test(name)) continue;
      throw this.#refused(
        Code.unimplemented,
        `the graph of this architecture has no place for tensor "${name}"`,
      );
    }
  }

  #pick(
    name: string,
    dims: readonly number[],
    types: ReadonlyMap<number, string>,
  ): WeightId {
    const known = this.#idByName.get(name);
    if (known !== undefined) return known;
    const tensor = this.#file.tensors.get(name);
    if (tensor === undefined) {
      const shape = dims.join(", ");
      throw this.#refused(
        Code.invalidArgument,
        `tensor "${name}": needed with dims [${shape}], not found`,
      );
    }
    this.#check(tensor, dims, types);
    const { type, offset, bytes } = tensor;
    const id = this.weights.length as WeightId;
    this.weights.push({
      name,
      type,
      cols: dims[0],
      rows: dims[1] ?? 1,
      offset,
      bytes,
    });
    this.#idByName.set(name, id);
    return id;
  }

  #check(
    { name, dims, type }: GgufTensor,
    needed: readonly number[],
    types: ReadonlyMap<number, string>,
  ): void {
    // Trailing dimensions of 1 may be written or left out.
    const shape = dims.filter((dim, i) => i < needed.length || dim !== 1);
    if (
      shape.length !== needed.length ||
      shape.some((dim, i) => dim !== needed[i])
    ) {
      throw this.#refused(
        Code.invalidArgument,
        `tensor "${name}": needs dims [${needed.join(", ")}], found [${
          dims.join(", ")
        }]`,
      );
    }
    if (!types.has(type)) {
      const names = [...types.values()].join(", ");
      throw this.#refused(
        Code.unimplemented,
        `tensor "${name}": needs type ${names}, found ${ggmlTypeName(type)}`,
      );
    }
  }

  #refused(code: Code, detail: string): MeshError {
    return new MeshError(
      code,
      `Cannot load model "${this.#file.path}": ${detail}`,
    );
  }
}

import { Code, MeshError } from "../errors/mesh_error.ts";

/** How one ggml type packs its elements: `blockElements` of them in `blockBytes`. */
export interface GgmlType {
  readonly id: number;
  readonly name: string;
  readonly blockElements: number;
  readonly blockBytes: number;
}

const rows: readonly [number, string, number, number][] = [
  [0, "F32", 1, 4],
  [1, "F16", 1, 2],
  [2, "Q4_0", 32, 18],
  [3, "Q4_1", 32, 20],
  [6, "Q5_0", 32, 22],
  [7, "Q5_1", 32, 24],
  [8, "Q8_0", 32, 34],
  [9, "Q8_1", 32, 36],
  [10, "Q2_K", 256, 84],
  [11, "Q3_K", 256, 110],
  [12, "Q4_K", 256, 144],
  [13, "Q5_K", 256, 176],
  [14, "Q6_K", 256, 210],
  [15, "Q8_K", 256, 292],
  [16, "IQ2_XXS", 256, 66],
  [17, "IQ2_XS", 256, 74],
  [18, "IQ3_XXS", 256, 98],
  [19, "IQ1_S", 256, 50],
  [20, "IQ4_NL", 32, 18],
  [21, "IQ3_S", 256, 110],
  [22, "IQ2_S", 256, 82],
  [23, "IQ4_XS", 256, 136],
  [24, "I8", 1, 1],
  [25, "I16", 1, 2],
  [26, "I32", 1, 4],
  [27, "I64", 1, 8],
  [28, "F64", 1, 8],
  [29, "IQ1_M", 256, 56],
  [30, "BF16", 1, 2],
  [34, "TQ1_0", 256, 54],
  [35, "TQ2_0", 256, 66],
  [39, "MXFP4", 32, 17],
  [40, "NVFP4", 64, 36],
  [41, "Q1_0", 128, 18],
  [42, "Q2_0", 64, 18],
];

/**
 * Every type a file may hold, by id. Ids 4, 5, 31–33 and 36–38 were given out
 * once and withdrawn; they are absent here, so that a file naming one is refused.
 */
export const ggmlTypes: ReadonlyMap<number, GgmlType> = new Map(
  rows.map(([id, name, blockElements, blockBytes]) => [
    id,
    { id, name, blockElements, blockBytes },
  ]),
);

/** Ids by name, for code that writes files: `ggmlTypeIds.Q8_0`. */
export const ggmlTypeIds: Readonly<Record<string, number>> = Object
  .fromEntries(rows.map(([id, name]) => [name, id]));

/** The name of a type id, for messages; unknown ids keep their number. */
export function ggmlTypeName(id: number): string {
  return ggmlTypes.get(id)?.name ?? `type ${id}`;
}

/** Bytes that a tensor of this type and shape takes, without padding. */
export function tensorBytes(type: number, dims: readonly number[]): number {
  const known = ggmlTypes.get(type);
  if (known === undefined) {
    throw new MeshError(
      Code.invalidArgument,
      `Cannot size a tensor: needs a known ggml type, found ${type}`,
    );
  }
  const elements = dims.reduce((product, dim) => product * dim, 1);
  const rowElements = dims[0] ?? 1;
  if (rowElements % known.blockElements !== 0) {
    throw new MeshError(
      Code.invalidArgument,
      `Cannot size a ${known.name} tensor: needs rows of a multiple of ` +
        `${known.blockElements} elements, found ${rowElements}`,
    );
  }
  return elements / known.blockElements * known.blockBytes;
}

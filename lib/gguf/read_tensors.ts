import type { FileCursor } from "./file_cursor.ts";
import { ggmlTypes, tensorBytes } from "./ggml_types.ts";
import type { GgufTensor } from "./types.ts";

const nameBytesMax = 63;
const dimsMax = 4;

/** One tensor as declared; `offset` still counts from the data section. */
export function readTensorInfo(cursor: FileCursor, index: number): GgufTensor {
  const name = cursor.string(`tensor ${index} name`, nameBytesMax);
  if (name === "") {
    throw cursor.error(`tensor ${index} name`, "a name", "an empty one");
  }
  const field = `tensor "${name}"`;
  const dims = readDims(cursor, field);
  const type = cursor.u32(`${field} type`);
  const known = ggmlTypes.get(type);
  if (known === undefined) {
    throw cursor.error(`${field} type`, "a known ggml type", `${type}`);
  }
  if (dims[0]! % known.blockElements !== 0) {
    throw cursor.error(
      `${field} dims`,
      `rows of a multiple of ${known.blockElements} elements for ${known.name}`,
      `${dims[0]}`,
    );
  }
  const bytes = tensorBytes(type, dims);
  const offset = cursor.count(
    `${field} offset`,
    cursor.fileBytes,
    "size of the file",
  );
  return { name, type, dims, offset, bytes };
}

function readDims(cursor: FileCursor, field: string): number[] {
  const count = cursor.u32(`${field} dims count`);
  if (count < 1 || count > dimsMax) {
    throw cursor.error(`${field} dims count`, `1 to ${dimsMax}`, `${count}`);
  }
  const dims: number[] = [];
  let elements = 1;
  for (let index = 0; index < count; index++) {
    const dim = cursor.count(
      `${field} dim ${index}`,
      Number.MAX_SAFE_INTEGER,
      "exact in a double",
    );
    elements *= dim;
    if (dim === 0 || elements > 2 ** 50) {
      throw cursor.error(
        `${field} dim ${index}`,
        "1 to 2^50 elements in all",
        `${dim}`,
      );
    }
    dims.push(dim);
  }
  return dims;
}

/** Holds offsets against sizes, alignment and the file; makes them absolute. */
export function placeTensors(
  cursor: FileCursor,
  declared: readonly GgufTensor[],
  alignment: number,
): Map<string, GgufTensor> {
  const dataStart = roundUp(cursor.position, alignment);
  const tensors = new Map<string, GgufTensor>();
  let next = 0;
  for (const tensor of declared) {
    const field = `tensor "${tensor.name}"`;
    if (tensors.has(tensor.name)) {
      throw cursor.error(field, "a new name", "the name again");
    }
    if (tensor.offset !== next) {
      throw cursor.error(
        `${field} offset`,
        `${next}, right after the one before`,
        `${tensor.offset}`,
      );
    }
    const end = dataStart + tensor.offset + tensor.bytes;
    if (end > cursor.fileBytes) {
      throw cursor.error(
        field,
        `a file of at least ${end} bytes`,
        `${cursor.fileBytes} bytes`,
      );
    }
    tensors.set(tensor.name, { ...tensor, offset: dataStart + tensor.offset });
    next = roundUp(tensor.offset + tensor.bytes, alignment);
  }
  return tensors;
}

function roundUp(value: number, multiple: number): number {
  return Math.ceil(value / multiple) * multiple;
}

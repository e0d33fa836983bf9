/**
 * The GGUF reader: reads what a file declares and no tensor data.
 *
 * A model file comes from strangers, so each count, length, type and offset is
 * held against the bytes the file really has before anything is allocated for it.
 * Invariant: whatever the bytes, the outcome is a `GgufFile` whose tensors lie
 * inside the file without overlap, or a `MeshError` that names the field.
 */
import { closeSync, fstatSync, openSync } from "node:fs";
import { Code, MeshError } from "../errors/mesh_error.ts";
import { FileCursor } from "./file_cursor.ts";
import { ggmlTypes, tensorBytes } from "./ggml_types.ts";
import { createMetadata } from "./metadata.ts";
import type { GgufFile, GgufTensor, GgufValue } from "./types.ts";
import {
  isNumericType,
  numericArrays,
  type NumericType,
  valueBytesMin,
  type ValueType,
  valueTypes,
} from "./value_types.ts";

/** V8 holds strings below 512 MiB; the longest known, a chat template, has 30 kB. */
const stringBytesMax = 2 ** 28;
const arrayElementsMax = 2 ** 30;
/** Strings and booleans become JavaScript values; vocabularies stay below 2^19. */
const boxedElementsMax = 2 ** 24;
const headerBytesMax = 2 ** 30;
const metadataKeysMax = 2 ** 16;
const tensorsMax = 2 ** 20;
const alignmentMax = 2 ** 20;
const nameBytesMax = 63;
const dimsMax = 4;
/** The least one entry takes: key length, one byte, type, one byte. */
const entryBytesMin = 8 + 1 + 4 + 1;
/** Name length, one byte, dims count, one dim, type, offset. */
const tensorBytesMin = 8 + 1 + 4 + 8 + 4 + 8;

/** Reads the header of a GGUF file, version 2 or 3. */
export function readGguf(path: string): GgufFile {
  const fd = openFile(path);
  try {
    const stat = fstatSync(fd);
    if (!stat.isFile()) {
      throw new MeshError(
        Code.invalidArgument,
        `Cannot read GGUF file "${path}": expected a regular file, found another kind`,
      );
    }
    return readHeader(new FileCursor(path, fd, stat.size));
  } finally {
    closeSync(fd);
  }
}

function openFile(path: string): number {
  try {
    return openSync(path, "r");
  } catch (cause) {
    const missing = (cause as NodeJS.ErrnoException).code === "ENOENT";
    throw new MeshError(
      missing ? Code.notFound : Code.invalidArgument,
      `Cannot read GGUF file "${path}": expected a readable file, found ` +
        (missing ? "none" : (cause as Error).message),
      { cause },
    );
  }
}

function readHeader(cursor: FileCursor): GgufFile {
  const version = readVersion(cursor);
  const tensorCount = readCount(
    cursor,
    "tensor count",
    tensorBytesMin,
    tensorsMax,
  );
  const keyCount = readCount(
    cursor,
    "metadata key count",
    entryBytesMin,
    metadataKeysMax,
  );
  const values = readMetadata(cursor, keyCount);
  const metadata = createMetadata(cursor.path, values);
  refuseSplit(cursor, values);
  const alignment = readAlignment(cursor, values);
  const declared: GgufTensor[] = [];
  for (let index = 0; index < tensorCount; index++) {
    declared.push(readTensorInfo(cursor, index));
  }
  return {
    path: cursor.path,
    version,
    alignment,
    fileBytes: cursor.fileBytes,
    metadata,
    tensors: placeTensors(cursor, declared, alignment),
  };
}

function readVersion(cursor: FileCursor): number {
  const magic = cursor.u32("magic");
  if (magic !== 0x46554747) {
    const found = magic.toString(16).padStart(8, "0");
    throw cursor.error(
      "magic",
      'the bytes "GGUF"',
      `the little-endian word 0x${found}`,
    );
  }
  const version = cursor.u32("version");
  if (version === 2 || version === 3) return version;
  if (version !== 0 && (version & 0xffff) === 0) {
    throw cursor.error(
      "version",
      "2 or 3, little-endian",
      `a big-endian file (0x${version.toString(16)})`,
    );
  }
  throw cursor.error("version", "2 or 3", `${version}`);
}

function readCount(
  cursor: FileCursor,
  field: string,
  eachBytes: number,
  max: number,
): number {
  const room = Math.floor(Math.max(0, cursor.remaining - 8) / eachBytes);
  return cursor.count(
    field,
    Math.min(room, max),
    `what the file has room for, up to ${max}`,
  );
}

function readMetadata(
  cursor: FileCursor,
  count: number,
): Map<string, GgufValue> {
  const values = new Map<string, GgufValue>();
  for (let index = 0; index < count; index++) {
    const key = cursor.string(`metadata key ${index}`, 2 ** 16 - 1);
    if (key === "") {
      throw cursor.error(`metadata key ${index}`, "a name", "an empty one");
    }
    if (values.has(key)) {
      throw cursor.error(
        `metadata key ${index}`,
        "a new name",
        `"${key}" again`,
      );
    }
    const field = `key "${key}"`;
    const type = readValueType(cursor, field);
    values.set(
      key,
      type === "array"
        ? readArray(cursor, field)
        : readScalar(cursor, field, type),
    );
    if (cursor.position > headerBytesMax) {
      throw cursor.error(
        field,
        `a header of at most ${headerBytesMax} bytes`,
        "a longer one",
      );
    }
  }
  return values;
}

function readValueType(cursor: FileCursor, field: string): ValueType {
  const id = cursor.u32(`${field} type`);
  const type = valueTypes[id];
  if (type === undefined) {
    throw cursor.error(
      `${field} type`,
      `a value type 0 to ${valueTypes.length - 1}`,
      `${id}`,
    );
  }
  return type;
}

type ScalarType = Exclude<ValueType, "array">;

function readScalar(
  cursor: FileCursor,
  field: string,
  type: ScalarType,
): GgufValue {
  if (type === "string") return cursor.string(field, stringBytesMax);
  if (type === "bool") return readBoolean(cursor, field);
  return cursor[type](field);
}

function readBoolean(cursor: FileCursor, field: string): boolean {
  const byte = cursor.u8(field);
  if (byte > 1) throw cursor.error(field, "a boolean byte 0 or 1", `${byte}`);
  return byte === 1;
}

function readArray(cursor: FileCursor, field: string): GgufValue {
  const type = readValueType(cursor, `${field} element`);
  if (type === "array") {
    throw cursor.error(field, "an array of plain values", "an array of arrays");
  }
  const numeric = isNumericType(type);
  const room = Math.floor(
    Math.max(0, cursor.remaining - 8) / valueBytesMin[type],
  );
  const max = Math.min(room, numeric ? arrayElementsMax : boxedElementsMax);
  const length = cursor.count(
    `${field} length`,
    max,
    "what the file has room for, or the limit",
  );
  if (numeric) return readNumbers(cursor, field, type, length);
  if (type === "bool") {
    return Array.from({ length }, () => readBoolean(cursor, field));
  }
  return readStrings(cursor, field, length);
}

function readNumbers(
  cursor: FileCursor,
  field: string,
  type: NumericType,
  length: number,
): GgufValue {
  const bytes = length * valueBytesMin[type];
  if (cursor.position + bytes > headerBytesMax) {
    throw cursor.error(
      field,
      `a header of at most ${headerBytesMax} bytes`,
      `an array of ${bytes}`,
    );
  }
  // Typed arrays are little-endian on every machine we run on, as the file is.
  const numbers = new numericArrays[type](length);
  cursor.fill(new Uint8Array(numbers.buffer), field);
  return numbers;
}

function readStrings(
  cursor: FileCursor,
  field: string,
  length: number,
): string[] {
  const strings: string[] = [];
  for (let index = 0; index < length; index++) {
    strings.push(cursor.string(field, stringBytesMax));
    if (cursor.position > headerBytesMax) {
      throw cursor.error(
        field,
        `a header of at most ${headerBytesMax} bytes`,
        "a longer one",
      );
    }
  }
  return strings;
}

function refuseSplit(
  cursor: FileCursor,
  values: ReadonlyMap<string, GgufValue>,
): void {
  const count = values.get("split.count");
  if (count === undefined || Number(count) <= 1) return;
  throw cursor.error(
    'key "split.count"',
    "1 (join the parts with gguf-split --merge first)",
    `one part of ${count}`,
  );
}

function readAlignment(
  cursor: FileCursor,
  values: ReadonlyMap<string, GgufValue>,
): number {
  const alignment = values.get("general.alignment") ?? 32;
  const valid = typeof alignment === "number" && Number.isInteger(alignment) &&
    alignment >= 1 && alignment <= alignmentMax &&
    (alignment & (alignment - 1)) === 0;
  if (valid) return alignment;
  throw cursor.error(
    'key "general.alignment"',
    `a power of two up to ${alignmentMax}`,
    `${String(alignment).slice(0, 40)}`,
  );
}

/** One tensor as declared; `offset` still counts from the data section. */
function readTensorInfo(cursor: FileCursor, index: number): GgufTensor {
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
function placeTensors(
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

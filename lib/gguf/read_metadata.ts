import type { FileCursor } from "./file_cursor.ts";
import { StringList } from "./string_list.ts";
import type { GgufValue } from "./types.ts";
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

/** As read; strings of an array become such when they are asked for. */
export type StoredValue = GgufValue | StringList;

/** Reads `count` keys and values; a key that comes twice is refused. */
export function readMetadata(
  cursor: FileCursor,
  count: number,
): Map<string, StoredValue> {
  const values = new Map<string, StoredValue>();
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

function readArray(cursor: FileCursor, field: string): StoredValue {
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
): StringList {
  const strings = new StringList(length);
  while (!strings.isFull) {
    cursor.stringsInto(strings, field, stringBytesMax);
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

/** The value types of GGUF metadata, in the order of their ids (0 to 12). */
export const valueTypes = [
  "u8",
  "i8",
  "u16",
  "i16",
  "u32",
  "i32",
  "f32",
  "bool",
  "string",
  "array",
  "u64",
  "i64",
  "f64",
] as const;

export type ValueType = typeof valueTypes[number];

/** Least bytes one element takes in the file; a string has its length at least. */
export const valueBytesMin: Readonly<Record<ValueType, number>> = {
  u8: 1,
  i8: 1,
  u16: 2,
  i16: 2,
  u32: 4,
  i32: 4,
  f32: 4,
  bool: 1,
  string: 8,
  array: 12,
  u64: 8,
  i64: 8,
  f64: 8,
};

/** Typed arrays that hold a numeric array of the file as stored. */
export const numericArrays = {
  u8: Uint8Array,
  i8: Int8Array,
  u16: Uint16Array,
  i16: Int16Array,
  u32: Uint32Array,
  i32: Int32Array,
  f32: Float32Array,
  u64: BigUint64Array,
  i64: BigInt64Array,
  f64: Float64Array,
} as const;

export type NumericType = keyof typeof numericArrays;

export function isNumericType(type: ValueType): type is NumericType {
  return type in numericArrays;
}

/**
 * Writes GGUF v3 files: metadata, tensor list, then tensor data piece by piece, so
 * that a file larger than memory can be written.
 */
import { closeSync, openSync, writeSync } from "node:fs";
import { Code, MeshError } from "../errors/mesh_error.ts";
import { ggmlTypeName, tensorBytes } from "./ggml_types.ts";
import { type ValueType, valueTypes } from "./value_types.ts";

/** One metadata value with the type it is stored as; see `gguf` for makers. */
export type WriteValue =
  | { readonly type: Exclude<ValueType, "array">; readonly value: WriteScalar }
  | {
    readonly type: "array";
    readonly of: Exclude<ValueType, "array">;
    readonly value: ArrayLike<WriteScalar>;
  };

export type WriteScalar = number | bigint | boolean | string;

/** Makers of metadata values: `gguf.u32(4096)`, `gguf.array("string", tokens)`. */
export const gguf = {
  u32: (value: number): WriteValue => ({ type: "u32", value }),
  i32: (value: number): WriteValue => ({ type: "i32", value }),
  u64: (value: bigint): WriteValue => ({ type: "u64", value }),
  f32: (value: number): WriteValue => ({ type: "f32", value }),
  bool: (value: boolean): WriteValue => ({ type: "bool", value }),
  string: (value: string): WriteValue => ({ type: "string", value }),
  array: (
    of: Exclude<ValueType, "array">,
    value: ArrayLike<WriteScalar>,
  ): WriteValue => ({ type: "array", of, value }),
} as const;

export interface WriteTensor {
  readonly name: string;
  /** ggml type id */
  readonly type: number;
  /** ne[0] first */
  readonly dims: readonly number[];
  /** All bytes, or a maker of the pieces, called once while writing. */
  readonly data: Uint8Array | (() => Iterable<Uint8Array>);
}

export interface WriteGgufOptions {
  readonly metadata: Readonly<Record<string, WriteValue>>;
  readonly tensors?: readonly WriteTensor[];
  /** Bytes; a power of two, default 32. */
  readonly alignment?: number;
}

/** Writes a file; a tensor whose data has another size than its shape is refused. */
export function writeGguf(path: string, options: WriteGgufOptions): void {
  const { tensors = [], alignment = 32 } = options;
  const fd = openSync(path, "w");
  try {
    writeAll(fd, ggufHeader(options));
    for (const tensor of tensors) writeTensor(fd, path, tensor, alignment);
  } finally {
    closeSync(fd);
  }
}

/** Everything before the tensor data, padded to the alignment. */
export function ggufHeader(options: WriteGgufOptions): Uint8Array {
  const { tensors = [], alignment = 32 } = options;
  const metadata = alignment === 32
    ? options.metadata
    : { ...options.metadata, "general.alignment": gguf.u32(alignment) };
  const out = new ByteSink();
  out.bytes(utf8.encode("GGUF"));
  out.scalar("u32", 3);
  out.scalar("u64", BigInt(tensors.length));
  out.scalar("u64", BigInt(Object.keys(metadata).length));
  for (const [key, value] of Object.entries(metadata)) {
    writeEntry(out, key, value);
  }
  let offset = 0;
  for (const tensor of tensors) {
    writeTensorInfo(out, tensor, offset);
    offset = roundUp(offset + tensorBytes(tensor.type, tensor.dims), alignment);
  }
  out.bytes(new Uint8Array(roundUp(out.size, alignment) - out.size));
  return out.take();
}

function writeEntry(out: ByteSink, key: string, value: WriteValue): void {
  out.scalar("string", key);
  out.scalar("u32", valueTypes.indexOf(value.type));
  if (value.type !== "array") {
    out.scalar(value.type, value.value);
    return;
  }
  out.scalar("u32", valueTypes.indexOf(value.of));
  out.scalar("u64", BigInt(value.value.length));
  for (let i = 0; i < value.value.length; i++) {
    out.scalar(value.of, value.value[i]!);
  }
}

function writeTensorInfo(
  out: ByteSink,
  tensor: WriteTensor,
  offset: number,
): void {
  out.scalar("string", tensor.name);
  out.scalar("u32", tensor.dims.length);
  for (const dim of tensor.dims) out.scalar("u64", BigInt(dim));
  out.scalar("u32", tensor.type);
  out.scalar("u64", BigInt(offset));
}

function writeTensor(
  fd: number,
  path: string,
  tensor: WriteTensor,
  alignment: number,
): void {
  const expected = tensorBytes(tensor.type, tensor.dims);
  const pieces = tensor.data instanceof Uint8Array
    ? [tensor.data]
    : tensor.data();
  let written = 0;
  for (const piece of pieces) {
    writeAll(fd, piece);
    written += piece.byteLength;
  }
  if (written !== expected) {
    throw new MeshError(
      Code.invalidArgument,
      `Cannot write GGUF file "${path}": tensor "${tensor.name}" (${
        ggmlTypeName(tensor.type)
      }, ` +
        `${tensor.dims.join(" × ")}) needs ${expected} bytes, found ${written}`,
    );
  }
  writeAll(fd, new Uint8Array(roundUp(written, alignment) - written));
}

const utf8 = new TextEncoder();

/** Little-endian bytes in a buffer that grows. */
class ByteSink {
  #bytes = new Uint8Array(1 << 16);
  #view = new DataView(this.#bytes.buffer);
  #at = 0;

  get size(): number {
    return this.#at;
  }

  take(): Uint8Array {
    return this.#bytes.subarray(0, this.#at);
  }

  bytes(piece: Uint8Array): void {
    this.#reserve(piece.byteLength);
    this.#bytes.set(piece, this.#at);
    this.#at += piece.byteLength;
  }

  scalar(type: Exclude<ValueType, "array">, value: WriteScalar): void {
    if (type === "string") {
      const text = utf8.encode(String(value));
      this.scalar("u64", BigInt(text.byteLength));
      this.bytes(text);
      return;
    }
    this.#reserve(8);
    this.#at += setters[type](this.#view, this.#at, value as number & bigint);
  }

  #reserve(count: number): void {
    if (this.#at + count <= this.#bytes.byteLength) return;
    const wider = new Uint8Array(
      Math.max(this.#bytes.byteLength * 2, this.#at + count),
    );
    wider.set(this.#bytes);
    this.#bytes = wider;
    this.#view = new DataView(wider.buffer);
  }
}

/** Puts a value at an offset, and returns its size. */
type Setter = (view: DataView, at: number, value: number & bigint) => number;

const setters: Readonly<
  Record<Exclude<ValueType, "array" | "string">, Setter>
> = {
  u8: (view, at, value) => (view.setUint8(at, value), 1),
  i8: (view, at, value) => (view.setInt8(at, value), 1),
  u16: (view, at, value) => (view.setUint16(at, value, true), 2),
  i16: (view, at, value) => (view.setInt16(at, value, true), 2),
  u32: (view, at, value) => (view.setUint32(at, value, true), 4),
  i32: (view, at, value) => (view.setInt32(at, value, true), 4),
  f32: (view, at, value) => (view.setFloat32(at, value, true), 4),
  bool: (view, at, value) => (view.setUint8(at, value ? 1 : 0), 1),
  u64: (view, at, value) => (view.setBigUint64(at, value, true), 8),
  i64: (view, at, value) => (view.setBigInt64(at, value, true), 8),
  f64: (view, at, value) => (view.setFloat64(at, value, true), 8),
};

function writeAll(fd: number, bytes: Uint8Array): void {
  for (let at = 0; at < bytes.byteLength;) {
    at += writeSync(fd, bytes, at, bytes.byteLength - at);
  }
}

function roundUp(value: number, multiple: number): number {
  return Math.ceil(value / multiple) * multiple;
}

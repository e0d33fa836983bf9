/**
 * Tensor bytes to f32, type by type as the formats are specified.
 *
 * Written for reading, in double precision: products of a scale, a sub-scale and a
 * code are exact there, so each value is rounded to f32 once, as in ggml.
 */
import { Code, MeshError } from "../errors/mesh_error.ts";
import { ggmlTypeIds, ggmlTypeName, ggmlTypes } from "./ggml_types.ts";
import { bf16Value, f16Value } from "./half.ts";

/** Value `i` of the block that starts at byte `at`. */
type ValueOf = (bytes: Bytes, at: number, i: number) => number;

const valueOfType: Readonly<Record<string, ValueOf>> = {
  F32: (b, at) => b.f32(at),
  F16: (b, at) => b.f16(at),
  BF16: (b, at) => bf16Value(b.u16(at)),
  Q4_0: (b, at, i) => b.f16(at) * (b.nibble(at + 2, i) - 8),
  Q4_1: (b, at, i) => b.f16(at) * b.nibble(at + 4, i) + b.f16(at + 2),
  Q5_0: (b, at, i) =>
    b.f16(at) * (b.nibble(at + 6, i) + 16 * b.bit(at + 2, i) - 16),
  Q5_1: (b, at, i) =>
    b.f16(at) * (b.nibble(at + 8, i) + 16 * b.bit(at + 4, i)) + b.f16(at + 2),
  Q8_0: (b, at, i) => b.f16(at) * b.i8(at + 2 + i),
  IQ4_NL: (b, at, i) => b.f16(at) * iq4Values[b.nibble(at + 2, i)],
  MXFP4: (b, at, i) => 2 ** (b.u8(at) - 128) * mxfp4Values[b.nibble(at + 1, i)],
  Q2_K: valueQ2K,
  Q3_K: valueQ3K,
  Q4_K: (b, at, i) => valueWithSixBitScales(b, at, i, fourBits(b, at + 16, i)),
  Q5_K: (b, at, i) => {
    const high = (b.u8(at + 16 + i % 32) >> Math.floor(i / 32)) & 1;
    const code = fourBits(b, at + 48, i) + 16 * high;
    return valueWithSixBitScales(b, at, i, code);
  },
  Q6_K: valueQ6K,
  IQ4_XS: valueIq4Xs,
};

// deno-fmt-ignore
const iq4Values = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];
/** Twice the E2M1 values, for the exponent's bias is one more than theirs. */
const mxfp4Values = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];

/** Names of the types that `dequantize()` reads. */
export const dequantizedTypes: readonly string[] = Object.keys(valueOfType);

/** Decodes whole blocks of ggml type `type`. */
export function dequantize(type: number, bytes: Uint8Array): Float32Array {
  const format = ggmlTypes.get(type);
  const valueOf = format && valueOfType[format.name];
  if (valueOf === undefined) {
    throw new MeshError(
      Code.invalidArgument,
      `Cannot dequantize: needs one of ${dequantizedTypes.join(", ")}; found ${
        ggmlTypeName(type)
      }`,
    );
  }
  const { blockBytes, blockElements, name } = format!;
  if (bytes.byteLength % blockBytes !== 0) {
    throw new MeshError(
      Code.invalidArgument,
      `Cannot dequantize ${name}: needs whole blocks of ${blockBytes} bytes, ` +
        `found ${bytes.byteLength} bytes`,
    );
  }
  const view = new Bytes(bytes);
  const out = new Float32Array(bytes.byteLength / blockBytes * blockElements);
  for (let i = 0; i < out.length; i++) {
    const at = Math.floor(i / blockElements) * blockBytes;
    out[i] = valueOf(view, at, i % blockElements);
  }
  return out;
}

function valueQ2K(b: Bytes, at: number, i: number): number {
  const scales = b.u8(at + Math.floor(i / 16));
  const half = Math.floor(i / 128), shift = 2 * Math.floor(i % 128 / 32);
  const code = (b.u8(at + 16 + 32 * half + i % 32) >> shift) & 3;
  return b.f16(at + 80) * (scales & 15) * code -
    b.f16(at + 82) * (scales >> 4);
}

function valueQ3K(b: Bytes, at: number, i: number): number {
  const half = Math.floor(i / 128), k = Math.floor(i % 128 / 32);
  const low = (b.u8(at + 32 + 32 * half + i % 32) >> (2 * k)) & 3;
  const high = (b.u8(at + i % 32) >> (4 * half + k)) & 1;
  const s = Math.floor(i / 16);
  const small = s < 8 ? b.u8(at + 96 + s) & 15 : b.u8(at + 96 + s - 8) >> 4;
  const large = (b.u8(at + 96 + 8 + s % 4) >> (2 * Math.floor(s / 4))) & 3;
  return b.f16(at + 108) * (small + 16 * large - 32) * (low + 4 * high - 4);
}

/** Codes of Q4_K and Q5_K: 32 low halves, then the high halves of the same bytes. */
function fourBits(b: Bytes, at: number, i: number): number {
  const shift = 4 * (Math.floor(i / 32) % 2);
  return (b.u8(at + 32 * Math.floor(i / 64) + i % 32) >> shift) & 15;
}

function valueWithSixBitScales(
  b: Bytes,
  at: number,
  i: number,
  code: number,
): number {
  const j = Math.floor(i / 32);
  const packed = (k: number) => b.u8(at + 4 + k);
  const scale = j < 4
    ? packed(j) & 63
    : (packed(j + 4) & 15) + 16 * (packed(j - 4) >> 6);
  const min = j < 4
    ? packed(j + 4) & 63
    : (packed(j + 4) >> 4) + 16 * (packed(j) >> 6);
  return b.f16(at) * scale * code - b.f16(at + 2) * min;
}

function valueQ6K(b: Bytes, at: number, i: number): number {
  const half = Math.floor(i / 128), k = Math.floor(i % 128 / 32), l = i % 32;
  const low = (b.u8(at + 64 * half + 32 * (k % 2) + l) >>
    (4 * Math.floor(k / 2))) & 15;
  const high = (b.u8(at + 128 + 32 * half + l) >> (2 * k)) & 3;
  const scale = b.i8(at + 192 + Math.floor(i / 16));
  return b.f16(at + 208) * scale * (low + 16 * high - 32);
}

function valueIq4Xs(b: Bytes, at: number, i: number): number {
  const s = Math.floor(i / 32);
  const low = (b.u8(at + 4 + Math.floor(s / 2)) >> (4 * (s % 2))) & 15;
  const high = (b.u16(at + 2) >> (2 * s)) & 3;
  const code = b.nibble(at + 8 + 16 * s, i % 32);
  return b.f16(at) * (low + 16 * high - 32) * iq4Values[code];
}

/** Little-endian bytes. */
class Bytes {
  readonly #view: DataView;

  constructor({ buffer, byteOffset, byteLength }: Uint8Array) {
    this.#view = new DataView(buffer, byteOffset, byteLength);
  }

  u8 = (at: number) => this.#view.getUint8(at);
  i8 = (at: number) => this.#view.getInt8(at);
  u16 = (at: number) => this.#view.getUint16(at, true);
  f16 = (at: number) => f16Value(this.u16(at));
  f32 = (at: number) => this.#view.getFloat32(at, true);
  bit = (at: number, i: number) => (this.u8(at + (i >> 3)) >> (i & 7)) & 1;
  /** Of 32 codes, byte j holds code j in its low and code j + 16 in its high half. */
  nibble = (at: number, i: number) =>
    (this.u8(at + i % 16) >> (i < 16 ? 0 : 4)) & 15;
}

/** Ids of all types above, for code that lists what can be read. */
export const dequantizedTypeIds: readonly number[] = dequantizedTypes.map((
  name,
) => ggmlTypeIds[name]!);

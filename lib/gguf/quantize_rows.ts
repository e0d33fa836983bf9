/**
 * Reference quantizers: rows of f32 to the bytes of a tensor, equal bit for bit to
 * those of ggml. Each step rounds to f32, as the C code does.
 */
import { Code, MeshError } from "../errors/mesh_error.ts";
import { ggmlTypeIds, ggmlTypeName, tensorBytes } from "./ggml_types.ts";
import { bf16Bits, f16Bits } from "./half.ts";

const blockElements = 32;

type Quantizer = (values: Float32Array, out: DataView) => void;

const quantizers: ReadonlyMap<number, Quantizer> = new Map([
  [ggmlTypeIds.F32!, quantizeF32],
  [ggmlTypeIds.F16!, quantizeF16],
  [ggmlTypeIds.BF16!, quantizeBf16],
  [ggmlTypeIds.Q8_0!, quantizeQ8],
  [ggmlTypeIds.Q4_0!, quantizeQ4],
]);

/** Encodes whole rows of `values` as ggml type `type`. */
export function quantizeRows(type: number, values: Float32Array): Uint8Array {
  const quantize = quantizers.get(type);
  if (quantize === undefined) {
    const known = [...quantizers.keys()].map(ggmlTypeName).join(", ");
    throw new MeshError(
      Code.invalidArgument,
      `Cannot quantize rows: needs one of ${known}; found ${
        ggmlTypeName(type)
      }`,
    );
  }
  const bytes = new Uint8Array(tensorBytes(type, [values.length]));
  quantize(values, new DataView(bytes.buffer));
  return bytes;
}

function quantizeF32(values: Float32Array, out: DataView): void {
  values.forEach((value, i) => out.setFloat32(i * 4, value, true));
}

function quantizeF16(values: Float32Array, out: DataView): void {
  values.forEach((value, i) => out.setUint16(i * 2, f16Bits(value), true));
}

function quantizeBf16(values: Float32Array, out: DataView): void {
  values.forEach((value, i) => out.setUint16(i * 2, bf16Bits(value), true));
}

/** d = amax / 127, q = round half away from zero. */
function quantizeQ8(values: Float32Array, out: DataView): void {
  const blockBytes = 34;
  for (
    let start = 0, at = 0;
    start < values.length;
    start += blockElements, at += blockBytes
  ) {
    const block = values.subarray(start, start + blockElements);
    let most = 0;
    for (const value of block) most = Math.max(most, Math.abs(value));
    const scale = Math.fround(most / 127);
    const inverse = scale === 0 ? 0 : Math.fround(1 / scale);
    out.setUint16(at, f16Bits(scale), true);
    block.forEach((value, i) =>
      out.setInt8(at + 2 + i, roundAway(Math.fround(value * inverse)))
    );
  }
}

/** d = x / -8 for the signed x of largest size; byte j holds elements j and j + 16. */
function quantizeQ4(values: Float32Array, out: DataView): void {
  const blockBytes = 18;
  for (
    let start = 0, at = 0;
    start < values.length;
    start += blockElements, at += blockBytes
  ) {
    const block = values.subarray(start, start + blockElements);
    let most = 0;
    for (const value of block) {
      if (Math.abs(value) > Math.abs(most)) most = value;
    }
    const scale = Math.fround(most / -8);
    const inverse = scale === 0 ? 0 : Math.fround(1 / scale);
    out.setUint16(at, f16Bits(scale), true);
    const code = (i: number) =>
      Math.min(
        15,
        Math.trunc(Math.fround(Math.fround(block[i]! * inverse) + 8.5)),
      );
    for (let i = 0; i < 16; i++) {
      out.setUint8(at + 2 + i, code(i) | code(i + 16) << 4);
    }
  }
}

function roundAway(value: number): number {
  return Math.sign(value) * Math.floor(Math.abs(value) + 0.5);
}

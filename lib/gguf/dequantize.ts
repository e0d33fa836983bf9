/** Tensor bytes to f32, for the types `quantize_rows.ts` writes. */
import { Code, MeshError } from "../errors/mesh_error.ts";
import { ggmlTypeIds, ggmlTypeName, ggmlTypes } from "./ggml_types.ts";
import { bf16Value, f16Value } from "./half.ts";

type Dequantizer = (bytes: DataView, out: Float32Array) => void;

const dequantizers: ReadonlyMap<number, Dequantizer> = new Map([
  [ggmlTypeIds.F32!, dequantizeF32],
  [ggmlTypeIds.F16!, dequantizeF16],
  [ggmlTypeIds.BF16!, dequantizeBf16],
  [ggmlTypeIds.Q8_0!, dequantizeQ8],
  [ggmlTypeIds.Q4_0!, dequantizeQ4],
]);

/** Decodes whole blocks of ggml type `type`. */
export function dequantize(type: number, bytes: Uint8Array): Float32Array {
  const decode = dequantizers.get(type);
  if (decode === undefined) {
    const known = [...dequantizers.keys()].map(ggmlTypeName).join(", ");
    throw new MeshError(
      Code.invalidArgument,
      `Cannot dequantize: needs one of ${known}; found ${ggmlTypeName(type)}`,
    );
  }
  const { blockBytes, blockElements, name } = ggmlTypes.get(type)!;
  if (bytes.byteLength % blockBytes !== 0) {
    throw new MeshError(
      Code.invalidArgument,
      `Cannot dequantize ${name}: needs whole blocks of ${blockBytes} bytes, ` +
        `found ${bytes.byteLength} bytes`,
    );
  }
  const out = new Float32Array(bytes.byteLength / blockBytes * blockElements);
  decode(new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength), out);
  return out;
}

function dequantizeF32(bytes: DataView, out: Float32Array): void {
  for (let i = 0; i < out.length; i++) out[i] = bytes.getFloat32(i * 4, true);
}

function dequantizeF16(bytes: DataView, out: Float32Array): void {
  for (let i = 0; i < out.length; i++) {
    out[i] = f16Value(bytes.getUint16(i * 2, true));
  }
}

function dequantizeBf16(bytes: DataView, out: Float32Array): void {
  for (let i = 0; i < out.length; i++) {
    out[i] = bf16Value(bytes.getUint16(i * 2, true));
  }
}

function dequantizeQ8(bytes: DataView, out: Float32Array): void {
  for (let i = 0; i < out.length; i++) {
    const at = Math.floor(i / 32) * 34;
    out[i] = f16Value(bytes.getUint16(at, true)) *
      bytes.getInt8(at + 2 + i % 32);
  }
}

function dequantizeQ4(bytes: DataView, out: Float32Array): void {
  for (let i = 0; i < out.length; i++) {
    const at = Math.floor(i / 32) * 18;
    const shift = i % 32 < 16 ? 0 : 4;
    const code = (bytes.getUint8(at + 2 + i % 16) >> shift) & 15;
    out[i] = f16Value(bytes.getUint16(at, true)) * (code - 8);
  }
}

/** Conversions between f32 and the two 16-bit formats, rounding to nearest even. */
const floats = new Float32Array(1);
const words = new Uint32Array(floats.buffer);

/** The bits of the f16 nearest to `value`. */
export function f16Bits(value: number): number {
  floats[0] = value;
  const word = words[0]!;
  const sign = (word >>> 16) & 0x8000;
  const exponent = (word >>> 23) & 0xff;
  const fraction = word & 0x7fffff;
  if (exponent === 0xff) return sign | 0x7c00 | (fraction === 0 ? 0 : 0x200);
  const scaled = exponent - 127 + 15;
  if (scaled >= 31) return sign | 0x7c00;
  if (scaled > 0) return sign | roundShift((scaled << 23) | fraction, 13);
  // Subnormal: the hidden bit appears, and the value shifts further right.
  const shift = 14 - scaled;
  return shift > 24 ? sign : sign | roundShift(fraction | 0x800000, shift);
}

/** A carry out of the fraction raises the exponent, which is what rounding up means. */
function roundShift(value: number, shift: number): number {
  const half = 1 << (shift - 1);
  const rest = value & ((1 << shift) - 1);
  const kept = value >>> shift;
  return rest > half || (rest === half && (kept & 1) === 1) ? kept + 1 : kept;
}

/** The value of f16 bits. */
export function f16Value(bits: number): number {
  const exponent = (bits >>> 10) & 31;
  const fraction = bits & 0x3ff;
  const sign = bits & 0x8000 ? -1 : 1;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 31) return fraction === 0 ? sign * Infinity : NaN;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

/** The bits of the bf16 nearest to `value`; a NaN stays one. */
export function bf16Bits(value: number): number {
  floats[0] = value;
  const word = words[0]!;
  if ((word & 0x7fffffff) > 0x7f800000) return (word >>> 16) | 0x40;
  return (word + 0x7fff + ((word >>> 16) & 1)) >>> 16;
}

/** The value of bf16 bits. */
export function bf16Value(bits: number): number {
  words[0] = bits << 16;
  return floats[0]!;
}

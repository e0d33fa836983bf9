/**
 * Random tensors of any type that the kernels read, without quantizing anything:
 * random codes, and scales that give the values a wanted deviation. For tests and
 * benchmarks, which need files of every type and a billion weights in seconds.
 */
import { Code, MeshError } from "../errors/mesh_error.ts";
import { ggmlTypes } from "./ggml_types.ts";
import { f16Bits } from "./half.ts";

/** Uniform 32-bit words (xorshift32, Marsaglia 2003); the same seed, the same words. */
export class RandomWords {
  #state: number;

  constructor(seed: number) {
    this.#state = (seed | 0) || 1;
    for (let i = 0; i < 8; i++) this.next();
  }

  next(): number {
    let x = this.#state;
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    this.#state = x;
    return x >>> 0;
  }

  /** Uniform in [0, 1). */
  unit(): number {
    return this.next() / 2 ** 32;
  }
}

interface Setter {
  /** Deviation of a value when the scale is 1, codes and sub-scales are random. */
  readonly deviation: number;
  /** Writes scales to the block at `at`; `scale` is the wanted one, about. */
  readonly set: (
    view: DataView,
    at: number,
    scale: number,
    random: RandomWords,
  ) => void;
}

const half = (offset: number): Setter["set"] => (view, at, scale) =>
  view.setUint16(at + offset, f16Bits(scale), true);

/** Scale at 0 and what is added at 2, so that the values lie around zero. */
const halfAndMinimum = (codesMean: number): Setter["set"] => (view, at, d) => {
  view.setUint16(at, f16Bits(d), true);
  view.setUint16(at + 2, f16Bits(-d * codesMean), true);
};

const setters: Readonly<Record<string, Setter>> = {
  Q4_0: { deviation: 4.6, set: half(0) },
  Q4_1: { deviation: 4.6, set: halfAndMinimum(7.5) },
  Q5_0: { deviation: 9.2, set: half(0) },
  Q5_1: { deviation: 9.2, set: halfAndMinimum(15.5) },
  Q8_0: { deviation: 74, set: half(0) },
  IQ4_NL: { deviation: 68, set: half(0) },
  MXFP4: {
    deviation: 5.9,
    set: (view, at, scale) =>
      view.setUint8(
        at,
        Math.max(0, Math.min(254, 128 + Math.round(Math.log2(scale)))),
      ),
  },
  Q2_K: { deviation: 1.12 * 11, set: setQ2K },
  Q3_K: { deviation: 2.3 * 18.5, set: half(108) },
  Q4_K: {
    deviation: 4.6 * 48,
    set: (view, at, d, random) => setSixBitScales(view, at, d * 7.5, d, random),
  },
  Q5_K: {
    deviation: 9.2 * 48,
    set: (view, at, d, random) =>
      setSixBitScales(view, at, d * 15.5, d, random),
  },
  Q6_K: { deviation: 18.5 * 74, set: half(208) },
  IQ4_XS: { deviation: 68 * 18.5, set: half(0) },
};

/** Scales 8..15, with minimums that put the values around zero. */
function setQ2K(
  view: DataView,
  at: number,
  d: number,
  random: RandomWords,
): void {
  for (let s = 0; s < 16; s++) {
    view.setUint8(at + s, (8 + (random.next() & 7)) * 0x11);
  }
  view.setUint16(at + 80, f16Bits(d), true);
  view.setUint16(at + 82, f16Bits(d * 1.5), true);
}

/** Scales 32..63; each minimum is its scale, so the values lie around zero. */
function setSixBitScales(
  view: DataView,
  at: number,
  dmin: number,
  d: number,
  random: RandomWords,
): void {
  const word = random.next();
  const scales = Array.from(
    { length: 8 },
    (_, j) => 32 + ((word >>> (4 * j)) & 15) * 2 + (j & 1),
  );
  for (let j = 0; j < 4; j++) {
    const [first, second] = [scales[j]!, scales[j + 4]!];
    view.setUint8(at + 4 + j, first | (second >> 4) << 6);
    view.setUint8(at + 8 + j, first | (second >> 4) << 6);
    view.setUint8(at + 12 + j, (second & 15) * 0x11);
  }
  view.setUint16(at, f16Bits(d), true);
  view.setUint16(at + 2, f16Bits(dmin), true);
}

/** `elements` values of a type with about the given deviation; whole blocks only. */
export function randomBlocks(
  type: number,
  elements: number,
  { deviation, random }: {
    readonly deviation: number;
    readonly random: RandomWords;
  },
): Uint8Array {
  const format = ggmlTypes.get(type);
  const name = format?.name ?? `type ${type}`;
  if (name === "F32" || name === "F16" || name === "BF16") {
    return randomFloats(name, elements, deviation, random);
  }
  const setter = setters[name];
  if (format === undefined || setter === undefined) {
    throw new MeshError(
      Code.invalidArgument,
      `Cannot make random blocks: needs one of F32, F16, BF16, ${
        Object.keys(setters).join(", ")
      }; found ${name}`,
    );
  }
  const count = elements / format.blockElements;
  const bytes = randomBytes(count * format.blockBytes, random);
  const view = new DataView(bytes.buffer);
  const scale = deviation / setter.deviation;
  for (let block = 0; block < count; block++) {
    // Scales differ from block to block, as in real files.
    const some = scale * (0.75 + 0.5 * random.unit());
    setter.set(view, block * format.blockBytes, some, random);
  }
  return bytes;
}

function randomBytes(count: number, random: RandomWords): Uint8Array {
  const words = new Uint32Array(Math.ceil(count / 4));
  for (let i = 0; i < words.length; i++) words[i] = random.next();
  return new Uint8Array(words.buffer, 0, count);
}

/** Uniform values; the exponent and a random mantissa, without any conversion. */
function randomFloats(
  name: "F32" | "F16" | "BF16",
  elements: number,
  deviation: number,
  random: RandomWords,
): Uint8Array {
  const largest = deviation * Math.sqrt(3);
  if (name === "F32") {
    const values = new Float32Array(elements);
    for (let i = 0; i < elements; i++) {
      values[i] = (2 * random.unit() - 1) * largest;
    }
    return new Uint8Array(values.buffer);
  }
  // A table of halves, evenly spread: one word picks two.
  const table = new Uint16Array(65536);
  const single = new Float32Array(1), bits = new Uint32Array(single.buffer);
  for (let i = 0; i < table.length; i++) {
    single[0] = (2 * (i + 0.5) / table.length - 1) * largest;
    table[i] = name === "F16" ? f16Bits(single[0]) : bits[0]! >>> 16;
  }
  const values = new Uint16Array(elements);
  for (let i = 0; i < elements; i += 2) {
    const word = random.next();
    values[i] = table[word & 0xffff]!;
    if (i + 1 < elements) values[i + 1] = table[word >>> 16]!;
  }
  return new Uint8Array(values.buffer);
}

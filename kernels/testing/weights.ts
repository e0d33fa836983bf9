/** Weights for tests: random values, their GGUF bytes, and the values those bytes mean. */
import { randomUUID } from "node:crypto";
import { rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { WeightSpec } from "../../lib/engine/native.ts";
import type { WeightId } from "../../lib/engine/program.ts";
import {
  dequantize,
  ggmlTypes,
  randomBlocks,
  RandomWords,
  tensorBytes,
} from "../../lib/gguf/mod.ts";

export const weightTypes = {
  F32: 0,
  F16: 1,
  BF16: 30,
  Q8_0: 8,
  Q4_0: 2,
  Q4_1: 3,
  Q5_0: 6,
  Q5_1: 7,
  IQ4_NL: 20,
  MXFP4: 39,
  Q2_K: 10,
  Q3_K: 11,
  Q4_K: 12,
  Q5_K: 13,
  Q6_K: 14,
  IQ4_XS: 23,
} as const;
export type WeightType = keyof typeof weightTypes;
export const allWeightTypes = Object.keys(weightTypes) as WeightType[];

/** Types whose activations are quantized to int8. */
export function isQuantized(type: WeightType): boolean {
  return ggmlTypes.get(weightTypes[type])!.blockElements > 1;
}

/** A small generator with a seed, so that failures repeat (mulberry32). */
export class Random {
  #state: number;

  constructor(seed: number) {
    this.#state = seed >>> 0;
  }

  /** Uniform in [0, 1). */
  next(): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let t = this.#state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  }

  /** Integer in [0, bound). */
  below(bound: number): number {
    return Math.floor(this.next() * bound);
  }

  /** About normal: mean 0, deviation 1. */
  normal(): number {
    return Math.sqrt(-2 * Math.log(1 - this.next())) *
      Math.cos(2 * Math.PI * this.next());
  }

  floats(count: number, scale = 1): Float32Array {
    return Float32Array.from({ length: count }, () => this.normal() * scale);
  }

  shuffled(count: number): Int32Array {
    const order = Int32Array.from({ length: count }, (_, i) => i);
    for (let i = count - 1; i > 0; i--) {
      const j = this.below(i + 1);
      [order[i], order[j]] = [order[j], order[i]];
    }
    return order;
  }
}

const scratch = new DataView(new ArrayBuffer(4));

/** IEEE half of a double, ties to even, by searching between neighbours. */
export function toHalf(value: number): number {
  const sign = value < 0 || Object.is(value, -0) ? 0x8000 : 0;
  const magnitude = Math.abs(value);
  if (Number.isNaN(value)) return 0x7e00;
  if (magnitude >= 65520) return sign | 0x7c00;
  const exponent = Math.max(Math.floor(Math.log2(magnitude || 1e-30)), -14);
  const step = 2 ** (exponent - 10);
  let units = magnitude / step;
  const floor = Math.floor(units), rest = units - floor;
  units = rest > 0.5 || (rest === 0.5 && floor % 2 === 1) ? floor + 1 : floor;
  return sign | (((exponent + 14) << 10) + units);
}

export function fromHalf(half: number): number {
  const sign = half & 0x8000 ? -1 : 1,
    exponent = (half >> 10) & 31,
    fraction = half & 0x3ff;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

/** A weight: what is in the file, and what it means. */
export interface TestWeight {
  readonly type: WeightType;
  readonly rows: number;
  readonly cols: number;
  readonly bytes: Uint8Array;
  /** [rows, cols] */
  readonly values: Float64Array;
}

export function encodeWeight(
  type: WeightType,
  rows: number,
  cols: number,
  source: ArrayLike<number>,
): TestWeight {
  const bytes = new Uint8Array(rows * rowBytes(type, cols));
  const values = new Float64Array(rows * cols);
  const view = new DataView(bytes.buffer);
  if (type === "Q8_0" || type === "Q4_0") {
    for (let block = 0; block < rows * cols / 32; block++) {
      encodeBlock(
        type,
        view,
        block,
        Array.from({ length: 32 }, (_, i) => source[block * 32 + i]),
      )
        .forEach((value, i) => values[block * 32 + i] = value);
    }
    return { type, rows, cols, bytes, values };
  }
  for (let i = 0; i < rows * cols; i++) {
    values[i] = encodePlain(type, view, i, source[i]);
  }
  return { type, rows, cols, bytes, values };
}

function encodePlain(
  type: WeightType,
  view: DataView,
  i: number,
  value: number,
): number {
  if (type === "F32") {
    view.setFloat32(i * 4, value, true);
    return Math.fround(value);
  }
  if (type === "F16") {
    view.setUint16(i * 2, toHalf(value), true);
    return fromHalf(toHalf(value));
  }
  scratch.setFloat32(0, value);
  view.setUint16(i * 2, scratch.getUint16(0), true);
  scratch.setUint16(2, 0);
  return scratch.getFloat32(0);
}

function encodeBlock(
  type: WeightType,
  view: DataView,
  block: number,
  source: readonly number[],
): number[] {
  const at = block * (type === "Q8_0" ? 34 : 18);
  const largest = Math.max(...source.map(Math.abs));
  const half = toHalf(largest / (type === "Q8_0" ? 127 : 7)),
    scale = fromHalf(half);
  view.setUint16(at, half, true);
  const limit = type === "Q8_0" ? 127 : 7;
  const quants = source.map((value) =>
    scale === 0
      ? 0
      : Math.max(-limit - 1, Math.min(limit, Math.round(value / scale)))
  );
  if (type === "Q8_0") {
    quants.forEach((quant, i) => view.setInt8(at + 2 + i, quant));
  } else {
    for (let i = 0; i < 16; i++) {
      view.setUint8(at + 2 + i, (quants[i] + 8) | ((quants[i + 16] + 8) << 4));
    }
  }
  return quants.map((quant) => quant * scale);
}

/** A weight of any type out of random codes, with about the given deviation. */
export function randomWeight(
  type: WeightType,
  rows: number,
  cols: number,
  { seed, deviation = 0.3 }: { seed: number; deviation?: number },
): TestWeight {
  const random = new RandomWords(seed);
  const id = weightTypes[type];
  const bytes = randomBlocks(id, rows * cols, { deviation, random });
  const values = Float64Array.from(dequantize(id, bytes));
  return { type, rows, cols, bytes, values };
}

export function rowBytes(type: WeightType, cols: number): number {
  return tensorBytes(weightTypes[type], [cols]);
}

/** A file of weights, gone when disposed. */
export class WeightFile implements Disposable {
  readonly path = join(
    tmpdir(),
    `quetzal-${randomUUID()}.weights`,
  );
  readonly specs: WeightSpec[] = [];
  readonly #parts: Uint8Array[] = [];
  #bytes = 0;

  add(weight: TestWeight): WeightId {
    // An odd start, as nothing promises alignment.
    const padding = this.#bytes === 0 ? 3 : 0;
    this.#parts.push(new Uint8Array(padding), weight.bytes);
    const { rows, cols, bytes } = weight;
    const id = this.specs.length;
    this.specs.push({
      name: `w${id}`,
      type: weightTypes[weight.type],
      rows,
      cols,
      offset: this.#bytes + padding,
      bytes: bytes.length,
    });
    this.#bytes += padding + bytes.length;
    return id as WeightId;
  }

  addFloats(rows: number, cols: number, values: ArrayLike<number>): WeightId {
    return this.add(encodeWeight("F32", rows, cols, values));
  }

  write(): void {
    writeFileSync(this.path, Buffer.concat(this.#parts));
  }

  [Symbol.dispose](): void {
    rmSync(this.path, { force: true });
  }
}

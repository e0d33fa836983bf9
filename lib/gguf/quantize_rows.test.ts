import { deepEqual, equal, ok, throws } from "node:assert/strict";
import { createHash } from "node:crypto";
import { test } from "vitest";
import { dequantize, ggmlTypeIds, quantizeRows } from "./mod.ts";
import { bf16Bits, bf16Value, f16Bits, f16Value } from "./half.ts";

/** 64 blocks: random ones, zeros, integers, tiny and large values. */
function sampleRows(): Float32Array {
  let state = 123456789;
  const values = Float32Array.from({ length: 32 * 64 }, () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    const word = state >>> 0;
    return (word - 2 ** 31) / 2 ** 31 * (1 + word % 7);
  });
  values.fill(0, 32, 64);
  for (let i = 0; i < 32; i++) values[64 + i] = i - 16;
  for (let i = 96; i < 128; i++) values[i]! *= Math.fround(1e-6);
  for (let i = 128; i < 160; i++) values[i]! *= 1e4;
  return values;
}

const digest = (bytes: Uint8Array) =>
  createHash("sha256").update(bytes).digest("hex");

// Digests of a numpy implementation whose bytes equal those of llama-quantize.
const digests: Readonly<Record<string, string>> = {
  F16: "c6cfaba1a93449e95e2eacb68f953c1c8858f2e84418620532c2a58f0309d097",
  BF16: "21e6a1e728802ae26b59c1477f7f9ae9820829f2dfac3e39184fb37c93307af4",
  Q8_0: "55996127201c275a763a82709ae137136f354b20ba966be344081629dfe51985",
  Q4_0: "e60059e73cecd7222da38fa3679130bee262dc06101c660409d0bf7ed45aaf5a",
};

for (const [name, expected] of Object.entries(digests)) {
  test(`quantizeRows() writes the reference bytes of ${name}`, () => {
    equal(digest(quantizeRows(ggmlTypeIds[name]!, sampleRows())), expected);
  });
}

/** Half the distance of the smallest f16 values: scales of tiny blocks are that coarse. */
const scaleErrorMax = 2 ** -25;

test("dequantize() comes within half a step of what was quantized", () => {
  const values = sampleRows();
  for (const [name, steps] of [["Q8_0", 127], ["Q4_0", 8]] as const) {
    const type = ggmlTypeIds[name]!;
    const back = dequantize(type, quantizeRows(type, values));
    for (let start = 0; start < values.length; start += 32) {
      const most = Math.max(
        ...values.subarray(start, start + 32).map(Math.abs),
      );
      // Q4_0 reaches from -8 to +7 steps, so the far end may lose a whole one.
      const step = (name === "Q4_0" ? 1 : 0.5) * most / steps;
      for (let i = start; i < start + 32; i++) {
        const error = Math.abs(values[i]! - back[i]!);
        ok(
          error <= step * 1.02 + most * 2 ** -10 + steps * scaleErrorMax,
          `${name} ${i}: ${values[i]} ${back[i]}`,
        );
      }
    }
  }
});

test("f16 conversion agrees with the platform's on every half and between halves", () => {
  for (let bits = 0; bits < 0x7c00; bits++) {
    const value = f16Value(bits);
    equal(f16Bits(value), bits);
    equal(f16Bits(-value), bits | 0x8000);
    const above = bits + 1 < 0x7c00 ? f16Value(bits + 1) : 65536;
    for (const part of [0.25, 0.5, 0.75]) {
      const between = Math.fround(value + (above - value) * part);
      equal(f16Value(f16Bits(between)), Math.f16round(between), `${between}`);
    }
  }
  equal(f16Bits(Infinity), 0x7c00);
  ok(Number.isNaN(f16Value(f16Bits(NaN))));
});

test("bf16 rounds to nearest even and keeps NaN", () => {
  equal(bf16Bits(1), 0x3f80);
  equal(bf16Bits(1 + 2 ** -8), 0x3f80);
  equal(bf16Bits(1 + 3 * 2 ** -8), 0x3f82);
  equal(bf16Value(bf16Bits(-2.5)), -2.5);
  ok(Number.isNaN(bf16Value(bf16Bits(NaN))));
});

test("types without a quantizer and broken blocks are refused", () => {
  throws(
    () => quantizeRows(ggmlTypeIds.Q4_K!, new Float32Array(256)),
    /one of F32, F16.*found Q4_K/,
  );
  throws(
    () => quantizeRows(ggmlTypeIds.Q8_0!, new Float32Array(33)),
    /multiple of 32 elements, found 33/,
  );
  throws(
    () => dequantize(ggmlTypeIds.Q8_0!, new Uint8Array(35)),
    /whole blocks of 34 bytes, found 35/,
  );
  deepEqual(
    dequantize(ggmlTypeIds.F32!, quantizeRows(0, Float32Array.of(1, -2))),
    Float32Array.of(1, -2),
  );
});

import { equal } from "node:assert/strict";
import { test } from "vitest";
import {
  formatAge,
  formatBytes,
  formatCount,
  formatMs,
  formatShare,
} from "./format.ts";

const cases: readonly (readonly [found: string, expected: string])[] = [
  [formatMs(null), "–"],
  [formatMs(Infinity), "–"],
  [formatMs(0), "0 ms"],
  [formatMs(0.0424), "42.4 µs"],
  [formatMs(7.3149), "7.31 ms"],
  [formatMs(999.6), "1\u202f000 ms"],
  [formatMs(1_042), "1.04 s"],
  [formatMs(61_000), "1 m 1 s"],
  [formatMs(3_599_999), "1 h 0 m"],
  [formatMs(90 * 3_600_000), "3 d 18 h"],
  [formatCount(-14), "-14"],
  [formatCount(4_096), "4\u202f096"],
  [formatCount(14_210), "14.2 k"],
  [formatCount(2_500_000), "2.5 M"],
  [formatBytes(1_023), "1023 B"],
  [formatBytes(3_801_088), "3.63 MiB"],
  [formatShare(0.00003), "< 0.1 %"],
  [formatShare(0.0627), "6.3 %"],
  [formatShare(1), "100 %"],
  [formatShare(NaN), "–"],
  [formatAge(5_000, 4_000), "just now"],
  [formatAge(0, 185_000), "3 m ago"],
];

for (const [found, expected] of cases) {
  test(`a number is shown as "${expected}"`, () => equal(found, expected));
}

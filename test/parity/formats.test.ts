/**
 * Every weight type against llama.cpp, on small models of random weights: the
 * log-probabilities of a given text. The double-precision interpreter stands beside
 * both, for llama.cpp rounds activations in blocks of 256 for some types where we
 * round blocks of 32: where the two are further apart than the limit, ours must lie
 * within it from the exact value.
 */
import { ok } from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { loadNative } from "../../kernels/addon/mod.ts";
import type { Native } from "../../lib/engine/mod.ts";
import { referenceNative } from "../../lib/engine/testing/reference_native.ts";
import { dequantizedTypes, RandomWords } from "../../lib/gguf/mod.ts";
import { writeRandomModel } from "../load/random_model.ts";
import { loadForced } from "./forced_model.ts";
import { type Oracle, startOracle } from "./oracle.ts";

let oracle: Oracle;
let native: Native;
const folder = mkdtempSync(join(tmpdir(), "quetzal-formats-"));

beforeAll(async () => {
  native = loadNative();
  oracle = await startOracle();
});

afterAll(async () => {
  await oracle?.[Symbol.asyncDispose]();
  rmSync(folder, { recursive: true, force: true });
});

const plain = ["F32", "F16", "BF16"];

test.each([...dequantizedTypes, "Q4_K_M"])(
  "%s gives the log-probabilities of llama.cpp",
  { timeout: 120_000 },
  async (type) => {
    const limit = plain.includes(type) ? 0.02 : 0.1;
    const path = join(folder, `${type}.gguf`);
    writeRandomModel(path, { shape: "tiny", type });
    const random = new RandomWords(7);
    const prompt = Array.from({ length: 8 }, () => 256 + random.next() % 3500);
    const greedy = await oracle.greedy({ model: path, prompt, n: 40 });
    const ids = [...prompt, ...greedy.ids];
    const isAnswer = (_: unknown, i: number) => i >= prompt.length - 1;
    const ours = (await logprobs(native, path, ids)).filter(isAnswer);
    const exact = (await logprobs(referenceNative, path, ids)).filter(isAnswer);
    const forced = await oracle.forced({ model: path, ids, top: 1 });
    const logProbs = forced.logProbs.filter(isAnswer);
    const apart = ours.map((value, i) => Math.abs(value - logProbs[i]!));
    const off = ours.map((value, i) => Math.abs(value - exact[i]));
    const theirs = logProbs.map((value, i) => Math.abs(value! - exact[i]));
    console.log(
      `${type}: ours from llama.cpp max ${max(apart)} mean ${mean(apart)}; ` +
        `from exact: ours max ${max(off)}, llama.cpp max ${max(theirs)}`,
    );
    // Values that mean something: a model that prefers nothing would agree with any.
    ok(Math.max(...exact) > 2 - Math.log(4096));
    const beyond = apart.flatMap((value, i) => value > limit ? [i] : []);
    for (const i of beyond) {
      // Two roundings of one value: the exact one lies between, or nearer to ours.
      const isBetween = (ours[i] - exact[i]) * (logProbs[i]! - exact[i]) <= 0;
      ok(
        off[i] <= limit && (isBetween || off[i] < theirs[i]),
        `token ${i}: ours ${ours[i]}, llama.cpp ${logProbs[i]}, exact ${
          exact[i]
        }`,
      );
    }
    expect(beyond.length).toBeLessThanOrEqual(2);
    expect(average(apart)).toBeLessThan(limit / 2);
    expect(Math.max(...off)).toBeLessThanOrEqual(limit);
  },
);

async function logprobs(
  code: Native,
  path: string,
  ids: readonly number[],
): Promise<number[]> {
  const forced = await loadForced(code, path, ids.length);
  try {
    return await forced.logprobs(ids);
  } finally {
    await forced.model.close();
  }
}

const average = (values: readonly number[]) =>
  values.reduce((sum, value) => sum + value, 0) / values.length;
const max = (values: readonly number[]) => Math.max(...values).toFixed(4);
const mean = (values: readonly number[]) => average(values).toFixed(4);

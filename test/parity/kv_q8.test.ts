/**
 * KV in q8_0 against llama.cpp with KV in q8_0, and against our own KV in f16: the
 * log-probabilities of given text.
 *
 * Both sides round keys and values alike. llama.cpp rounds queries to 8 bits, too, and
 * sums values in f16; ours stay f32. So the double-precision interpreter over a pool of
 * q8_0 stands beside both.
 */
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, expect, test } from "vitest";
import { loadNative } from "../../kernels/addon/mod.ts";
import {
  createEngine,
  type KvType,
  type Native,
} from "../../lib/engine/mod.ts";
import { referenceNative } from "../../lib/engine/testing/reference_native.ts";
import { run } from "../../lib/engine/testing/sequences.ts";
import { readGguf } from "../../lib/gguf/mod.ts";
import { createTokenizer } from "../../lib/tokenizer/mod.ts";
import { loadForced } from "./forced_model.ts";
import { type Oracle, startOracle } from "./oracle.ts";

const questions = [
  "What is the KV cache?",
  "Tell me a story about a fox named Pip.",
  "How does speculative decoding work?",
  "Describe a red robot named Ada who is 7 years old as JSON.",
];

let oracle: Oracle;
let native: Native;

beforeAll(async () => {
  native = loadNative();
  oracle = await startOracle();
});

afterAll(async () => {
  await oracle?.[Symbol.asyncDispose]();
});

/** About twice what was measured; [largest, mean] of 321 log-probabilities. */
const files = [
  {
    name: "quetzal-demo-f16",
    limits: { llamaCpp: [0.1, 0.006], exact: [0.02, 3e-4], f16: [0.12, 0.005] },
  },
  // Its activations are rounded to 8 bits besides.
  {
    name: "quetzal-demo-q8_0",
    limits: { llamaCpp: [0.5, 0.013], exact: [0.5, 0.012], f16: [0.4, 0.01] },
  },
] as const;

test.for(files)(
  "$name over KV in q8_0 agrees with llama.cpp",
  { timeout: 120_000 },
  async ({ name, limits }) => {
    const path = fileURLToPath(
      new URL(`../../models/${name}.gguf`, import.meta.url),
    );
    const texts = await textsOf(path);
    const ours = await logprobsOf(native, path, texts, "q8_0");
    const inF16 = await logprobsOf(native, path, texts, "f16");
    const exact = await logprobsOf(referenceNative, path, texts, "q8_0");
    const theirs: number[] = [];
    for (const ids of texts) {
      const request = { model: path, ids, top: 1, kvType: "Q8_0" } as const;
      const { logProbs } = await oracle.forced(request);
      theirs.push(...logProbs.map((value) => value!));
    }
    const apart = {
      llamaCpp: difference(ours, theirs),
      exact: difference(ours, exact),
      llamaCppFromExact: difference(theirs, exact),
      f16: difference(ours, inF16),
    };
    console.log(name, ours.length, JSON.stringify(apart));
    for (const from of ["llamaCpp", "exact", "f16"] as const) {
      const [max, mean] = limits[from];
      expect(apart[from].max, `largest from ${from}`).toBeLessThanOrEqual(max);
      expect(apart[from].mean, `mean from ${from}`).toBeLessThanOrEqual(mean);
    }
    expect(apart.exact.mean).toBeLessThanOrEqual(apart.llamaCppFromExact.mean);
  },
);

/** Questions with the answers that the model gives. */
async function textsOf(path: string): Promise<number[][]> {
  const tokenizer = createTokenizer(readGguf(path).metadata);
  await using engine = await createEngine({ path, native, kvBlocks: 64 });
  const texts: number[][] = [];
  for (const question of questions) {
    const prompt = tokenizer.encode(
      `<|im_start|>user\n${question}<|im_end|>\n<|im_start|>assistant\n`,
      { parseSpecial: true },
    );
    const { ids } = await run(engine, { prompt, maxTokens: 64 });
    texts.push([...prompt, ...ids]);
  }
  return texts;
}

async function logprobsOf(
  code: Native,
  path: string,
  texts: readonly number[][],
  kvType: KvType,
): Promise<number[]> {
  const tokensMax = Math.max(...texts.map(({ length }) => length));
  const forced = await loadForced(code, path, tokensMax, kvType);
  const all: number[] = [];
  for (const ids of texts) all.push(...await forced.logprobs(ids));
  await forced.model.close();
  return all;
}

function difference(a: readonly number[], b: readonly number[]) {
  const apart = a.map((value, i) => Math.abs(value - b[i]));
  return {
    max: Math.max(...apart),
    mean: apart.reduce((sum, each) => sum + each, 0) / apart.length,
  };
}

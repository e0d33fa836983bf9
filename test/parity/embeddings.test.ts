/**
 * Embeddings against llama.cpp's embedding context (node-llama-cpp), whose pooling for
 * these models is the last token's hidden state behind the final norm.
 *
 * The two round activations differently, so vectors agree in direction and not to the
 * bit: for weights of 8 bits both round activations to 8 bits, to other grids. The
 * double-precision interpreter stands beside both.
 */
import { ok } from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, test } from "vitest";
import { loadNative } from "../../kernels/addon/mod.ts";
import { createEngine, type Native } from "../../lib/engine/mod.ts";
import { referenceNative } from "../../lib/engine/testing/reference_native.ts";
import { readGguf } from "../../lib/gguf/mod.ts";
import { createTokenizer } from "../../lib/tokenizer/mod.ts";
import { type Oracle, startOracle } from "./oracle.ts";

const texts = [
  "Hello!",
  "What is the KV cache?",
  "The capital of France is Paris.",
  "Once there was a fox named Pip who lived near a quiet river.",
  "Grüße, 世界! 👩‍🚀",
  "347 + 586 = 933",
  "def add(a, b):\n    return a + b\n",
  "seven quiet birds ".repeat(30),
];

/** Of the cosine's distance from 1: ours from llama.cpp's vector, and from the exact one. */
const f16Limits = { theirsMax: 1e-4, exactMax: 1e-6 };
const q8Limits = { theirsMax: 1e-3, exactMax: 1e-3 };
const files = [
  { name: "quetzal-demo-f16", limits: f16Limits },
  { name: "quetzal-draft-f16", limits: f16Limits },
  { name: "quetzal-demo-q8_0", limits: q8Limits },
  { name: "quetzal-draft-q8_0", limits: q8Limits },
];

let oracle: Oracle;
let native: Native;

beforeAll(async () => {
  native = loadNative();
  oracle = await startOracle();
});
afterAll(async () => await oracle?.[Symbol.asyncDispose]());

test.for(files)(
  "$name: vectors point where those of llama.cpp do",
  { timeout: 300_000 },
  async ({ name, limits }) => {
    const path = fileURLToPath(
      new URL(`../../models/${name}.gguf`, import.meta.url),
    );
    const tokenizer = createTokenizer(readGguf(path).metadata);
    const answers = [];
    for (const text of texts) {
      const ids = [...tokenizer.encode(text)];
      answers.push(await oracle.embed({ model: path, ids }));
    }
    const prompts = answers.map(({ ids }) => Int32Array.from(ids));
    const theirs = answers.map(({ values }) => values);
    const ours = await embedAll(path, native, prompts);
    const exact = await embedAll(path, referenceNative, prompts);
    const fromTheirs = distances(ours, theirs);
    const fromExact = distances(ours, exact);
    const theirsFromExact = distances(theirs, exact);
    console.log(
      `${name}: 1 - cosine, max and mean\n` +
        `  ours from llama.cpp:  ${fromTheirs}\n` +
        `  ours from exact:      ${fromExact}\n` +
        `  llama.cpp from exact: ${theirsFromExact}`,
    );
    ok(fromTheirs.max <= limits.theirsMax, `${fromTheirs} from llama.cpp`);
    ok(fromExact.max <= limits.exactMax, `${fromExact} from exact`);
    ok(fromExact.mean <= 1.5 * theirsFromExact.mean);
    // The texts are told apart by far more than that.
    ok(1 - cosineOf(ours[0], ours[2]) > 10 * limits.theirsMax);
  },
);

function distances(
  found: readonly ArrayLike<number>[],
  wanted: readonly ArrayLike<number>[],
) {
  const all = wanted.map((vector, i) => 1 - cosineOf(found[i], vector));
  const max = Math.max(...all);
  const mean = all.reduce((sum, value) => sum + value) / all.length;
  return {
    max,
    mean,
    toString: () => `${max.toExponential(2)}, ${mean.toExponential(2)}`,
  };
}

async function embedAll(
  path: string,
  native: Native,
  prompts: readonly Int32Array[],
): Promise<Float32Array[]> {
  await using engine = await createEngine({ path, native, kvBlocks: 64 });
  const { signal } = new AbortController();
  const vectors: Float32Array[] = [];
  for (const promptIds of prompts) {
    const spec = { requestId: "e", promptIds };
    vectors.push((await engine.embed(spec, { signal })).values);
  }
  return vectors;
}

function cosineOf(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let [dot, aa, bb] = [0, 0, 0];
  for (let i = 0; i < b.length; i++) {
    dot += a[i] * b[i];
    aa += a[i] * a[i];
    bb += b[i] * b[i];
  }
  return dot / Math.sqrt(aa * bb);
}

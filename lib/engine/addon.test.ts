/** The engine on real native code: against the interpreter, and with itself. */
import { deepEqual, equal, ok } from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, test } from "vitest";
import { loadNative } from "../../kernels/addon/mod.ts";
import { gguf, readGguf } from "../gguf/mod.ts";
import { createTokenizer } from "../tokenizer/mod.ts";
import {
  blockTokens,
  createEngine,
  type Engine,
  type EngineToken,
  type Native,
  openModel,
} from "./mod.ts";
import { type Isa, type KvType, kvTypes } from "./native.ts";
import { referenceNative } from "./testing/reference_native.ts";
import { promptOf, run, spec } from "./testing/sequences.ts";
import { forcedLogits } from "./testing/teacher_forcing.ts";
import { type TinyModelOptions, writeTinyModel } from "./testing/tiny_model.ts";

const folder = mkdtempSync(join(tmpdir(), "quetzal-addon-"));
let native: Native;
beforeAll(() => void (native = loadNative()));
afterAll(() => rmSync(folder, { recursive: true }));

const idCount = 40;

async function logitsOf(
  code: Native,
  isa: Isa,
  { path, kvType }: { path: string; kvType: KvType },
): Promise<Float32Array[]> {
  const { graph } = openModel(readGguf(path));
  const model = await code.loadModel({
    path,
    isa,
    threads: 2,
    weights: graph.weights,
    program: graph.program,
    kv: { ...graph.kv, type: kvType, blockTokens, blocks: 4 },
    rowsMax: idCount,
    outRowsMax: idCount,
  });
  try {
    return await forcedLogits(model, promptOf(idCount), graph.vocabSize);
  } finally {
    await model.close();
  }
}

/** Root mean square of the differences, against that of the logits. */
function relativeError(
  found: Float32Array[],
  expected: Float32Array[],
): number {
  let squares = 0;
  let all = 0;
  expected.forEach((row, r) =>
    row.forEach((value, i) => {
      squares += (found[r][i] - value) ** 2;
      all += value ** 2;
    })
  );
  return Math.sqrt(squares / all);
}

/** Weights of 8 and 4 bits meet activations of 8 bits: about 1 in 100 is lost. */
const variants: {
  name: string;
  errorMax: number;
  options: TinyModelOptions;
  kvType?: KvType;
}[] = [
  { name: "F32", errorMax: 1e-3, options: {} },
  { name: "F16", errorMax: 1e-3, options: { type: 1 } },
  { name: "BF16", errorMax: 1e-3, options: { type: 30 } },
  { name: "Q8_0", errorMax: 0.05, options: { type: 8 } },
  { name: "Q4_0", errorMax: 0.05, options: { type: 2 } },
  { name: "biases", errorMax: 1e-3, options: { biases: true } },
  {
    name: "tied, rope divisors",
    errorMax: 1e-3,
    options: { tied: true, ropeDivisors: true },
  },
  { name: "tied Q8_0", errorMax: 0.05, options: { tied: true, type: 8 } },
  {
    name: "linear scaling, part of the head rotated",
    errorMax: 1e-3,
    options: {
      metadata: {
        "llama.rope.dimension_count": gguf.u32(8),
        "llama.rope.scaling.type": gguf.string("linear"),
        "llama.rope.scaling.factor": gguf.f32(4),
      },
    },
  },
  {
    name: "odd shapes",
    errorMax: 1e-3,
    options: {
      layers: 1,
      width: 96,
      heads: 3,
      kvHeads: 1,
      headDim: 8,
      vocabSize: 101,
    },
  },
  // A code may round the other way: one part in 254 of a block's largest value.
  {
    name: "KV in q8_0",
    errorMax: 2e-3,
    options: { headDim: 64 },
    kvType: "q8_0",
  },
];

test.for(variants)(
  "$name: logits are those of the interpreter",
  async (variant) => {
    const path = join(folder, "tiny.gguf");
    writeTinyModel(path, variant.options);
    const file = { path, kvType: variant.kvType ?? "f16" };
    const expected = await logitsOf(referenceNative, "ref", file);
    for (const isa of native.isasSupported) {
      const error = relativeError(await logitsOf(native, isa, file), expected);
      ok(error <= variant.errorMax, `${isa}: relative error ${error}`);
    }
  },
);

const demo = fileURLToPath(
  new URL("../../models/quetzal-demo-q8_0.gguf", import.meta.url),
);

test("the demo model answers, the same in any company and any chunks", async () => {
  const tokenizer = createTokenizer(readGguf(demo).metadata);
  const sampling = { stopIds: [...tokenizer.endIds], topLogprobs: 2 };
  const requests = ["What is the KV cache?", "Name five fruits.", "Hello!"].map(
    (text, i) => ({
      prompt: tokenizer.encode(
        `<|im_start|>user\n${text}<|im_end|>\n<|im_start|>assistant\n`,
        { parseSpecial: true },
      ),
      maxTokens: 32,
      sampling: { ...sampling, temperature: i === 2 ? 0.8 : 0, seed: 7n },
    }),
  );
  const alone: (readonly EngineToken[])[] = [];
  for (const request of requests) {
    await using engine = await createEngine({
      path: demo,
      native,
      kvBlocks: 64,
    });
    alone.push((await run(engine, request)).tokens);
  }
  const text = tokenizer.decode(alone[0].map(({ id }) => id));
  ok(
    text.startsWith("The KV cache stores the attention keys and values"),
    text,
  );
  await using engine = await createEngine({
    path: demo,
    native,
    kvBlocks: 64,
    rowsMax: 8,
    threads: 1,
  });
  for (let round = 0; round < 2; round++) {
    const outcomes = await Promise.all(
      requests.map((request) => run(engine, request)),
    );
    outcomes.forEach(({ tokens }, i) => deepEqual(tokens, alone[i]));
  }
  equal(engine.status().running, 0);
});

test.each(kvTypes)(
  "KV in %s of one worker is used by another without a change of the answer",
  async (kvType) => {
    const prompt = promptOf(100, 3, 4096);
    const options = { path: demo, native, kvType, kvBlocks: 64 };
    await using far = await createEngine(options);
    await using near = await createEngine(options);
    equal(near.fingerprint, far.fingerprint);
    const expected = await run(far, { prompt });
    const { signal } = new AbortController();
    const { kv, firstToken } = await far.prefill(spec({ prompt }), { signal });
    using _ = kv;
    const { ids, started } = await run(near, { prompt }, {
      fetchKv: (request) => {
        for (let i = 0; i < kv.blockCount; i++) {
          request.blockBytes(i).set(kv.blockBytes(i));
        }
        return Promise.resolve({ tokens: kv.tokenCount, firstToken });
      },
    });
    deepEqual(ids, expected.ids);
    equal(started.transferredTokens, 100);
  },
);

test("embeddings are those of the interpreter", async () => {
  const path = join(folder, "embed.gguf");
  writeTinyModel(path, {});
  const { signal } = new AbortController();
  const of = async (code: Native, isa?: Isa) => {
    await using engine = await createEngine({
      path,
      native: code,
      isa,
      kvBlocks: 8,
    });
    const { values } = await engine.embed(
      { requestId: "e", promptIds: promptOf(40) },
      { signal },
    );
    equal(values.length, engine.hiddenSize);
    return values;
  };
  const expected = await of(referenceNative);
  for (const isa of native.isasSupported) {
    const error = relativeError([await of(native, isa)], [expected]);
    ok(error <= 1e-3, `${isa}: relative error ${error}`);
  }
});

test.each(kvTypes)(
  "an embedding is the same bits beside a running batch, in chunks, and from the cache: KV in %s",
  async (kvType) => {
    const { signal } = new AbortController();
    const prompts = [5, 40, 100, 150].map((count, i) =>
      promptOf(count, i + 3, 4096)
    );
    const embed = (engine: Engine, promptIds: Int32Array) =>
      engine.embed({ requestId: "e", promptIds }, { signal });
    const options = { path: demo, native, kvType, kvBlocks: 128 };
    const alone: Float32Array[] = [];
    for (const prompt of prompts) {
      await using engine = await createEngine(options);
      alone.push((await embed(engine, prompt)).values);
    }
    for (const variant of [{ rowsMax: 16, threads: 1 }, { threads: 2 }]) {
      await using engine = await createEngine({ ...options, ...variant });
      const running = [7, 8, 9].map((seed) =>
        run(engine, { prompt: promptOf(60, seed, 4096), maxTokens: 40 })
      );
      for (const isCached of [false, true]) {
        const results = await Promise.all(
          prompts.map((prompt) => embed(engine, prompt)),
        );
        results.forEach(({ values, cachedTokens }, i) => {
          deepEqual(values, alone[i]);
          equal(cachedTokens > 0, isCached && i > 0);
        });
      }
      equal((await Promise.all(running)).length, 3);
    }
  },
);

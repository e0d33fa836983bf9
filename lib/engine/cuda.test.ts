/** The engine on the CUDA backend, over the emulated driver, against the CPU. */
import { deepEqual, equal, ok, rejects } from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, test } from "vitest";
import { emulatedNative } from "../../kernels/cuda/testing.ts";
import {
  ggmlTypeIds,
  randomBlocks,
  RandomWords,
  readGguf,
  type WriteTensor,
} from "../gguf/mod.ts";
import { createTokenizer } from "../tokenizer/mod.ts";
import { createEngine, type Native } from "./mod.ts";
import { promptOf, run, spec } from "./testing/sequences.ts";
import { writeTinyModel } from "./testing/tiny_model.ts";

let native: Native;
beforeAll(async () => {
  native = await emulatedNative();
}, 600_000);

const folder = mkdtempSync(join(tmpdir(), "quetzal-cuda-"));
afterAll(() => rmSync(folder, { recursive: true }));

const model = (name: string) =>
  fileURLToPath(new URL(`../../models/quetzal-${name}.gguf`, import.meta.url));

const options = { kvBlocks: 64, rowsMax: 32, runningMax: 8 };

function encode(text: string): Int32Array {
  const tokenizer = createTokenizer(readGguf(model("demo-q8_0")).metadata);
  return Int32Array.from(tokenizer.encode(
    `<|im_start|>user\n${text}<|im_end|>\n<|im_start|>assistant\n`,
    { parseSpecial: true },
  ));
}

test.each(["demo-q8_0", "demo-f16"])(
  "%s: greedy ids are those of the CPU, alone and together",
  async (name) => {
    const prompts = ["What is the KV cache?", "Name five fruits."].map(encode);
    const idsOn = async (backend: "cpu" | "cuda") => {
      await using engine = await createEngine({
        ...options,
        path: model(name),
        native,
        backend,
      });
      equal(
        engine.device?.()?.name,
        backend === "cuda" ? "Emulated GPU" : undefined,
      );
      const outcomes = await Promise.all(
        prompts.map((prompt) => run(engine, { prompt, maxTokens: 7 })),
      );
      if (backend === "cuda") ok(engine.device!()!.bytesPerS! > 0);
      return outcomes.map(({ ids }) => [...ids]);
    };
    deepEqual(await idsOn("cuda"), await idsOn("cpu"));
  },
  120_000,
);

test(
  "embeddings point where those of the CPU do, beside a running sequence too",
  async () => {
    const prompts = ["What is the KV cache?", "Name five fruits."].map(encode);
    const valuesOn = async (backend: "cpu" | "cuda") => {
      await using engine = await createEngine({
        ...options,
        path: model("demo-f16"),
        native,
        backend,
      });
      const { signal } = new AbortController();
      const running = run(engine, { prompt: encode("Hello!"), maxTokens: 6 });
      const results = await Promise.all(
        prompts.map((promptIds) =>
          engine.embed({ requestId: "e", promptIds }, { signal })
        ),
      );
      await running;
      return results.map(({ values }) => values);
    };
    const [onCpu, onGpu] = [await valuesOn("cpu"), await valuesOn("cuda")];
    for (const [i, values] of onGpu.entries()) {
      const cosine = cosineOf(values, onCpu[i]);
      ok(cosine > 0.9999, `cosine ${cosine}`);
    }
    ok(cosineOf(onGpu[0], onGpu[1]) < 0.99);
  },
  120_000,
);

function cosineOf(a: Float32Array, b: Float32Array): number {
  const dot = (x: Float32Array, y: Float32Array) =>
    x.reduce((sum, value, i) => sum + value * y[i], 0);
  return dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b));
}

test("sampled ids are those of the CPU for the same seed", async () => {
  const prompt = encode("Hello!");
  const sampling = {
    temperature: 0.8,
    topK: 20,
    topP: 0.9,
    minP: 0.02,
    seed: 7n,
    repetitionPenalty: 1.1,
  };
  const idsOn = async (backend: "cpu" | "cuda") => {
    await using engine = await createEngine({
      ...options,
      path: model("demo-f16"),
      native,
      backend,
    });
    return [...(await run(engine, { prompt, maxTokens: 8, sampling })).ids];
  };
  deepEqual(await idsOn("cuda"), await idsOn("cpu"));
}, 120_000);

/** Matrices of the three K-quants, mixed as in a Q4_K_M file. */
function mixOfKQuants(tensors: WriteTensor[]): WriteTensor[] {
  const typeOf = (name: string) =>
    /attn_v|ffn_down|^output\./.test(name)
      ? "Q6_K"
      : /attn_output|ffn_gate/.test(name)
      ? "Q5_K"
      : "Q4_K";
  const random = new RandomWords(17);
  return tensors.map((tensor) => {
    const { name, dims } = tensor;
    if (dims.length === 1) return tensor;
    const type = ggmlTypeIds[typeOf(name)]!;
    const deviation = name.startsWith("token_embd")
      ? 1
      : 1.5 / Math.sqrt(dims[0]);
    const elements = dims[0] * dims[1];
    const data = randomBlocks(type, elements, { deviation, random });
    return { name, type, dims, data };
  });
}

test(
  "Q4_K, Q5_K and Q6_K: ids are those of the CPU unless it is a tie within 0.12",
  async () => {
    // Both sides round a product's inputs, to other grids: 0.08 was seen.
    const bound = 0.12;
    const path = join(folder, "k-quants.gguf");
    writeTinyModel(path, {
      width: 256,
      feedForward: 512,
      headDim: 64,
      change: mixOfKQuants,
    });
    const prompts = [promptOf(3, 2), promptOf(21, 5)];
    const outcomesOn = async (backend: "cpu" | "cuda") => {
      await using engine = await createEngine({
        ...options,
        path,
        native,
        backend,
      });
      const sampling = { topLogprobs: 5 };
      return await Promise.all(
        prompts.map((prompt) =>
          run(engine, { prompt, maxTokens: 10, sampling })
        ),
      );
    };
    const expected = await outcomesOn("cpu");
    const found = await outcomesOn("cuda");
    let compared = 0;
    for (const [i, { tokens }] of expected.entries()) {
      for (const [k, { id, logprob, top }] of tokens.entries()) {
        const other = found[i].tokens[k];
        const error = Math.abs(other.logprob! - logprob!);
        ok(error <= bound, `prompt ${i}, token ${k}: differs by ${error}`);
        compared++;
        if (other.id === id) continue;
        // Two tokens as likely as each other: from here on the texts differ.
        const rival = top.find((each) => each.id === other.id);
        ok(
          rival && logprob! - rival.logprob <= bound,
          `prompt ${i}, token ${k}`,
        );
        break;
      }
    }
    ok(compared >= 12, `only ${compared} tokens were compared`);
  },
  120_000,
);

test("KV of a CPU worker is used by one on a GPU", async () => {
  const prompt = promptOf(40, 3, 4096);
  const load = (backend: "cpu" | "cuda") =>
    createEngine({ ...options, path: model("draft-q8_0"), native, backend });
  await using far = await load("cpu");
  await using near = await load("cuda");
  equal(near.fingerprint, far.fingerprint);
  const expected = await run(far, { prompt, maxTokens: 6 });
  const { signal } = new AbortController();
  const { kv, firstToken } = await far.prefill(spec({ prompt }), { signal });
  using _ = kv;
  const { ids, started } = await run(near, { prompt, maxTokens: 6 }, {
    fetchKv: (request) => {
      for (let i = 0; i < kv.blockCount; i++) {
        request.blockBytes(i).set(kv.blockBytes(i));
      }
      return Promise.resolve({ tokens: kv.tokenCount, firstToken });
    },
  });
  deepEqual(ids, expected.ids);
  equal(started.transferredTokens, 40);
}, 120_000);

test(
  "a lost device ends sequences as unavailable and shows in the engine's status",
  async () => {
    await using engine = await createEngine({
      ...options,
      path: model("draft-q8_0"),
      native,
      backend: "cuda",
    });
    equal(engine.device!()!.fault, undefined);
    process.env.QUETZAL_FAKE_CUDA_LOST = "1";
    try {
      await rejects(
        run(engine, { prompt: promptOf(5), maxTokens: 2 }),
        (reason: { code?: number; message: string }) =>
          reason.code === 14 && /is lost/.test(reason.message),
      );
      ok(/Emulated GPU is lost/.test(engine.device!()!.fault!));
    } finally {
      delete process.env.QUETZAL_FAKE_CUDA_LOST;
    }
  },
  60_000,
);

/** The engine on the CUDA backend, over the emulated driver, against the CPU. */
import { deepEqual, equal, ok, rejects } from "node:assert/strict";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { beforeAll, test } from "vitest";
import { emulatedNative } from "../../kernels/cuda/testing.ts";
import { readGguf } from "../gguf/mod.ts";
import { createTokenizer } from "../tokenizer/mod.ts";
import { createEngine, type Native } from "./mod.ts";
import { promptOf, run, spec } from "./testing/sequences.ts";

let native: Native;
beforeAll(async () => {
  native = await emulatedNative();
}, 600_000);

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

/** Embeddings of a real mesh: both runtimes, workers that are killed, company. */
import { deepEqual, equal, ok } from "node:assert/strict";
import OpenAI from "openai";
import { afterEach, test } from "vitest";
import { loadNative } from "../../kernels/addon/mod.ts";
import { createEngine } from "../../lib/engine/mod.ts";
import { readGguf } from "../../lib/gguf/mod.ts";
import { createTokenizer } from "../../lib/tokenizer/mod.ts";
import { callUnary, connect } from "../../lib/rpc/mod.ts";
import {
  EmbedRequest,
  InferenceClient,
} from "../../proto/gen/quetzal/v1/inference.ts";
import { ask } from "./ask.ts";
import { type Mesh, type MeshOptions, startMesh } from "./start_mesh.ts";

let mesh: Mesh | undefined;
afterEach(async () => {
  await mesh?.[Symbol.asyncDispose]();
  mesh = undefined;
});

async function start(options: MeshOptions = {}): Promise<Mesh> {
  return mesh = await startMesh(options);
}

const model = "quetzal-demo";
const path =
  new URL("../../models/quetzal-demo-q8_0.gguf", import.meta.url).pathname;

function client(mesh: Mesh): OpenAI {
  return new OpenAI({
    baseURL: `${mesh.httpUrl}/v1`,
    apiKey: "none",
    maxRetries: 0,
  });
}

/** What an engine of this process gives, alone and scaled to length 1. */
async function expected(texts: readonly string[]): Promise<number[][]> {
  const tokenizer = createTokenizer(readGguf(path).metadata);
  await using engine = await createEngine({
    path,
    native: loadNative(),
    kvBlocks: 64,
  });
  const { signal } = new AbortController();
  const vectors: number[][] = [];
  for (const text of texts) {
    const promptIds = tokenizer.encode(text);
    const spec = { requestId: "e", promptIds };
    const { values } = await engine.embed(spec, { signal });
    const length = Math.hypot(...values);
    vectors.push([...values].map((value) => Math.fround(value / length)));
  }
  return vectors;
}

function nearly(found: readonly number[], wanted: readonly number[]): void {
  equal(found.length, wanted.length);
  wanted.forEach((value, i) => ok(Math.abs(value - found[i]) < 1e-6));
}

const texts = ["The fox named Pip.", "What is the KV cache?", "347 + 586"];

for (const runtime of ["bun", "deno"] as const) {
  test(
    `vectors are those of an engine alone, over HTTP and gRPC, on ${runtime}`,
    async () => {
      const mesh = await start({ runtime });
      const wanted = await expected(texts);
      // Others run meanwhile: they must not show.
      const company = ask(mesh, {
        content: "Tell me a story.",
        max_tokens: 80,
      });
      const packed = await client(mesh).embeddings.create({
        model,
        input: texts,
      });
      const plain = await client(mesh).embeddings.create({
        model,
        input: texts,
        encoding_format: "float",
      });
      equal((await company).status, 200);
      for (const [i, { embedding }] of plain.data.entries()) {
        nearly(embedding, wanted[i]);
        deepEqual([...packed.data[i].embedding], embedding);
      }
      ok(plain.usage.prompt_tokens > 10);

      const grpc = connect(InferenceClient, mesh.grpcAddress);
      const message = EmbedRequest.fromPartial({
        inputs: texts.map((value) => ({ input: { $case: "text", value } })),
      });
      const answer = await callUnary(grpc.embed.bind(grpc), message);
      grpc.close();
      answer.embeddings.forEach(({ values }, i) =>
        deepEqual(values, plain.data[i].embedding)
      );
    },
    90_000,
  );
}

test(
  "a mesh without prefill workers embeds on its decode workers",
  async () => {
    const mesh = await start({ prefill: 0 });
    const [wanted] = await expected(texts);
    const { data } = await client(mesh).embeddings.create({
      model,
      input: texts[0],
      encoding_format: "float",
    });
    nearly(data[0].embedding, wanted);
  },
  60_000,
);

test(
  "kill -9 of the prefill worker at work: the request goes on, its vectors are the same",
  async () => {
    const mesh = await start();
    const input = Array.from(
      { length: 256 },
      (_, i) => `Story ${i}. ${"Pip the fox lived near a river. ".repeat(12)}`,
    );
    const embed = () =>
      client(mesh).embeddings.create({
        model,
        input,
        encoding_format: "float",
      });
    const running = embed();
    await busy(mesh);
    await mesh.process("prefill-0").kill("SIGKILL");
    const survived = await running;
    equal(survived.data.length, input.length);
    mesh.process("prefill-0").start();
    await mesh.waitForWorkers({ prefill: 1, decode: 1 });
    const undisturbed = await embed();
    deepEqual(
      survived.data.map(({ embedding }) => embedding),
      undisturbed.data.map(({ embedding }) => embedding),
    );
  },
  120_000,
);

/** Waits until the router has calls of this request at workers. */
async function busy(mesh: Mesh): Promise<void> {
  for (;;) {
    const text = await (await fetch(`${mesh.httpUrl}/metrics`)).text();
    if (/^quetzal:num_requests_running\{.*\} [1-9]/m.test(text)) return;
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

/** The gRPC doors, through generated clients. */
import { deepEqual, equal, ok, rejects } from "node:assert/strict";
import { afterAll, beforeAll, test } from "vitest";
import { Code } from "../../../lib/errors/mesh_error.ts";
import { callStream, callUnary, connect } from "../../../lib/rpc/mod.ts";
import { waitFor } from "../../../lib/testing/mod.ts";
import {
  GRPCInferenceServiceClient,
  ModelInferRequest,
} from "../../../proto/gen/inference/grpc_service.ts";
import { FinishReason } from "../../../proto/gen/quetzal/v1/common.ts";
import {
  GenerateRequest,
  type GenerateResponse,
  InferenceClient,
} from "../../../proto/gen/quetzal/v1/inference.ts";
import { says, type TestRouter, testRouter } from "../testing/demo.ts";
import type { FakeDecode } from "../testing/fake_decode.ts";

let mesh: TestRouter;
let worker: FakeDecode;
let client: InferenceClient;
let kserve: GRPCInferenceServiceClient;
const story = "Grüße, 世界! Pip the fox ran home. The end.";

beforeAll(async () => {
  mesh = await testRouter();
  worker = await mesh.worker({ script: says(mesh.model, story), tokenMs: 2 });
  const address = `127.0.0.1:${mesh.router.grpcPort}`;
  client = connect(InferenceClient, address);
  kserve = connect(GRPCInferenceServiceClient, address);
});
afterAll(async () => {
  client.close();
  kserve.close();
  await mesh[Symbol.asyncDispose]();
});

type Partial = Parameters<typeof GenerateRequest.fromPartial>[0];

function generate(request: Partial, options = {}) {
  const message = GenerateRequest.fromPartial(request);
  return callStream(client.generate.bind(client), message, options);
}

async function all(
  request: Partial,
): Promise<NonNullable<GenerateResponse["event"]>[]> {
  const events = [];
  for await (const { event } of generate(request)) events.push(event!);
  return events;
}

const prompt = { $case: "prompt" as const, value: "Once" };

test("Generate streams started, deltas and finished; tokens belong to their text", async () => {
  const events = await all({ model: "demo", input: prompt });
  const [started] = events;
  ok(started.$case === "started");
  const finished = events.at(-1)!;
  ok(finished.$case === "finished");
  const deltas = events.flatMap((event) =>
    event.$case === "delta" ? [event.value] : []
  );
  equal(deltas.map(({ text }) => text).join(""), story);
  const ids = deltas.flatMap(({ tokens }) => tokens.map(({ id }) => id));
  equal(mesh.model.tokenizer.decode(ids), story);
  deepEqual(finished.value, {
    reason: FinishReason.FINISH_REASON_STOP,
    promptTokens: started.value.promptTokens,
    completionTokens: ids.length,
    cachedTokens: 16,
  });
});

test("absent sampling fields mean off, and an absent seed is drawn", async () => {
  await all({
    input: {
      $case: "chat",
      value: { messages: [{ role: "user", content: "Hi" }] },
    },
  });
  const { seed, ...sampling } = worker.requests.at(-1)!.sampling!;
  ok(seed !== 0n);
  deepEqual(sampling, {
    temperature: 0,
    topK: 0,
    topP: undefined,
    minP: 0,
    presencePenalty: 0,
    frequencyPenalty: 0,
    repetitionPenalty: undefined,
    logitBias: {},
    stopTokenIds: [],
    ignoreEos: false,
    minTokens: 0,
    topLogprobs: undefined,
  });
});

test("ids go through as they are, seed, stop and max_tokens count", async () => {
  const events = await all({
    input: { $case: "tokens", value: { ids: [5, 6] } },
    seed: 2n ** 64n - 1n,
    maxTokens: 9,
    stop: [" fox"],
    tenant: "t",
  });
  const { promptIds, sampling, maxTokens, tenant } = worker.requests.at(-1)!;
  deepEqual([promptIds, sampling?.seed, maxTokens, tenant], [
    [5, 6],
    2n ** 64n - 1n,
    9,
    "t",
  ]);
  const text = events.map((event) =>
    event.$case === "delta" ? event.value.text : ""
  ).join("");
  ok(story.startsWith(text) && !text.includes(" fox"));
});

const refusals: {
  label: string;
  request: Partial;
  code: number;
  field: string;
}[] = [
  {
    label: "an unknown model",
    request: { model: "x", input: prompt },
    code: 5,
    field: "model",
  },
  { label: "no input", request: {}, code: 3, field: "prompt" },
  {
    label: "NaN",
    request: { input: prompt, sampling: { temperature: NaN } },
    code: 3,
    field: "temperature",
  },
  {
    label: "top_p 0",
    request: { input: prompt, sampling: { topP: 0 } },
    code: 3,
    field: "top_p",
  },
  {
    label: "negative max_tokens",
    request: { input: prompt, maxTokens: -5 },
    code: 3,
    field: "max_tokens",
  },
  {
    label: "17 stops",
    request: { input: prompt, stop: Array(17).fill("a") },
    code: 3,
    field: "stop",
  },
  {
    label: "an empty stop",
    request: { input: prompt, stop: [""] },
    code: 3,
    field: "stop[0]",
  },
  {
    label: "an unknown role",
    request: {
      input: {
        $case: "chat",
        value: { messages: [{ role: "king", content: "" }] },
      },
    },
    code: 3,
    field: "chat.messages[0].role",
  },
  {
    label: "ids outside the vocabulary",
    request: { input: { $case: "tokens", value: { ids: [-1] } } },
    code: 3,
    field: "tokens.ids[0]",
  },
  {
    label: "too many tokens",
    request: { input: prompt, maxTokens: 9_999 },
    code: 3,
    field: "max_tokens",
  },
  {
    label: "an infinite bias",
    request: { input: prompt, sampling: { logitBias: { 5: -Infinity } } },
    code: 3,
    field: "logit_bias.5",
  },
];

for (const { label, request, code, field } of refusals) {
  test(`Generate refuses ${label} in-band`, async () => {
    const events = await all(request);
    equal(events.length, 1);
    ok(events[0].$case === "error");
    deepEqual([events[0].value.code, events[0].value.field], [code, field]);
  });
}

test("cancelling the call cancels the decode call", async () => {
  await using slow = await testRouter();
  const endless = await slow.worker({ script: () => 300, tokenMs: 5 });
  const other = connect(InferenceClient, `127.0.0.1:${slow.router.grpcPort}`);
  const message = GenerateRequest.fromPartial({ input: prompt });
  let count = 0;
  for await (const _ of callStream(other.generate.bind(other), message)) {
    if (++count === 5) break;
  }
  await waitFor(() => endless.running === 0, {
    what: "the cancelled sequence",
    timeoutMs: 1_000,
  });
  other.close();
});

test("the call's deadline reaches the worker", async () => {
  await using slow = await testRouter();
  const endless = await slow.worker({ script: () => 300, tokenMs: 5 });
  const other = connect(InferenceClient, `127.0.0.1:${slow.router.grpcPort}`);
  const message = GenerateRequest.fromPartial({ input: prompt });
  const deadlineMs = Date.now() + 300;
  const codes: unknown[] = [];
  try {
    for await (
      const { event } of callStream(other.generate.bind(other), message, {
        deadlineMs,
      })
    ) {
      if (event?.$case === "error") codes.push(event.value.code);
    }
  } catch (reason) {
    codes.push((reason as { code: number }).code);
  }
  deepEqual(codes, [Code.deadlineExceeded]);
  ok(
    Math.abs(endless.calls[0].deadlineMs! - deadlineMs) < 100,
    "the worker knows the deadline",
  );
  await waitFor(() => endless.running === 0, {
    what: "the end of the sequence",
  });
  other.close();
});

test("Tokenize, Detokenize and ListModels", async () => {
  const { ids, contextLength } = await callUnary(client.tokenize.bind(client), {
    model: "demo",
    text: story,
    addSpecial: false,
  });
  equal(contextLength, 1_024);
  const { text } = await callUnary(client.detokenize.bind(client), {
    model: "",
    ids,
  });
  equal(text, story);
  const { models } = await callUnary(client.listModels.bind(client), {});
  deepEqual(models, [{
    name: "demo",
    contextLength: 1_024,
    vocabSize: mesh.model.tokenizer.vocabSize,
    decodeWorkers: 1,
    prefillWorkers: 0,
  }]);
  await rejects(
    callUnary(client.tokenize.bind(client), { model: "x", text: "" }),
    {
      code: Code.notFound,
    },
  );
});

test("Generate, Tokenize and Detokenize refuse what cannot fit before they tokenize it", async () => {
  const text = "Once upon a time ".repeat(10_000);
  const [event] = await all({ input: { $case: "prompt", value: text } });
  ok(event.$case === "error");
  ok(/170000 bytes of text/.test(event.value.message), event.value.message);
  await rejects(
    callUnary(client.tokenize.bind(client), { model: "demo", text }),
    { code: Code.invalidArgument, message: /170000 bytes of text/ },
  );
  const ids = Array(2_000).fill(300);
  await rejects(
    callUnary(client.detokenize.bind(client), { model: "demo", ids }),
    { code: Code.invalidArgument, message: /2000 token ids/ },
  );
});

test("what failed inside is in the log and not in the answer", async () => {
  await using other = await testRouter({ attemptsMax: 1 });
  await other.worker({
    script: () => 300,
    onToken: () => {
      throw new Error("secret.ts:12 failed at 10.0.0.7");
    },
  });
  const address = `127.0.0.1:${other.router.grpcPort}`;
  const inference = connect(InferenceClient, address);
  const infer = connect(GRPCInferenceServiceClient, address);
  const messages: string[] = [];
  const events = callStream(
    inference.generate.bind(inference),
    GenerateRequest.fromPartial({ input: prompt }),
  );
  for await (const { event } of events) {
    if (event?.$case === "error") messages.push(event.value.message);
  }
  await callUnary(
    infer.modelInfer.bind(infer),
    ModelInferRequest.fromPartial({ modelName: "demo", inputs: typed }),
  ).catch((reason) => messages.push(reason.message));
  equal(messages.length, 2);
  for (const message of messages) {
    const id = /^Cannot answer request "(.+)": an internal error$/
      .exec(message)?.[1];
    ok(id !== undefined, message);
    const line = other.log.find((each) => each.includes(id));
    ok(line?.includes("secret.ts:12 failed at 10.0.0.7"), `${line}`);
  }
  inference.close();
  infer.close();
});

const tensor = { name: "text_input", datatype: "BYTES", shape: [1n] };
const typed = [{
  ...tensor,
  contents: { bytesContents: [Buffer.from("Once")] },
}];

type Infer = Parameters<typeof ModelInferRequest.fromPartial>[0];

function infer(request: Infer) {
  const message = ModelInferRequest.fromPartial({
    modelName: "demo",
    ...request,
  });
  return callUnary(kserve.modelInfer.bind(kserve), message);
}

function withLength(text: string): Buffer {
  const length = Buffer.alloc(4);
  length.writeUInt32LE(Buffer.byteLength(text));
  return Buffer.concat([length, Buffer.from(text)]);
}

test("KServe: ModelInfer takes typed and raw text, and answers alike", async () => {
  const answer = await infer({ id: "a1", inputs: typed });
  equal(answer.id, "a1");
  equal(answer.outputs[0].contents?.bytesContents[0].toString(), story);
  deepEqual(answer.parameters.finish_reason.parameterChoice, {
    $case: "stringParam",
    value: "stop",
  });
  const raw = await infer({
    inputs: [tensor],
    rawInputContents: [withLength("Once")],
  });
  equal(raw.outputs[0].contents, undefined);
  deepEqual(Buffer.from(raw.rawOutputContents[0]), withLength(story));
});

test("KServe: parameters steer the sampling", async () => {
  await infer({
    inputs: typed,
    parameters: {
      max_tokens: { parameterChoice: { $case: "int64Param", value: 4n } },
      temperature: { parameterChoice: { $case: "doubleParam", value: 0.5 } },
      seed: {
        parameterChoice: { $case: "uint64Param", value: 2n ** 63n + 1n },
      },
      ignore_eos: { parameterChoice: { $case: "boolParam", value: true } },
      stop: { parameterChoice: { $case: "stringParam", value: '["x","y"]' } },
    },
  });
  const { maxTokens, sampling } = worker.requests.at(-1)!;
  deepEqual(
    [maxTokens, sampling?.temperature, sampling?.seed, sampling?.ignoreEos],
    [4, 0.5, 2n ** 63n + 1n, true],
  );
});

const badInfers: {
  label: string;
  request: Infer;
  message: RegExp;
  code?: number;
}[] = [
  { label: "no tensor", request: {}, message: /text_input/ },
  {
    label: "another tensor",
    request: { inputs: [{ ...tensor, name: "image" }] },
    message: /found \[image\]/,
  },
  {
    label: "another type",
    request: { inputs: [{ ...typed[0], datatype: "FP32" }] },
    message: /FP32/,
  },
  {
    label: "a batch",
    request: { inputs: [{ ...typed[0], shape: [2n] }] },
    message: /needs \[1\], found \[2\]/,
  },
  { label: "no contents", request: { inputs: [tensor] }, message: /found 0/ },
  {
    label: "a wrong raw length",
    request: {
      inputs: [tensor],
      rawInputContents: [Buffer.of(9, 0, 0, 0, 65)],
    },
    message: /says 9 bytes follow, found 1/,
  },
  {
    label: "short raw bytes",
    request: { inputs: [tensor], rawInputContents: [Buffer.of(1)] },
    message: /4 bytes length/,
  },
  {
    label: "bad UTF-8",
    request: {
      inputs: [{ ...tensor, contents: { bytesContents: [Buffer.of(0xff)] } }],
    },
    message: /UTF-8/,
  },
  {
    label: "another output",
    request: { inputs: typed, outputs: [{ name: "logits" }] },
    message: /found "logits"/,
  },
  {
    label: "an unknown parameter",
    request: {
      inputs: typed,
      parameters: {
        volume: { parameterChoice: { $case: "int64Param", value: 4n } },
      },
    },
    message: /volume/,
  },
  {
    label: "another version",
    request: { inputs: typed, modelVersion: "7" },
    message: /known is 1/,
    code: Code.notFound,
  },
  {
    label: "an unknown model",
    request: { modelName: "x", inputs: typed },
    message: /known are demo/,
    code: Code.notFound,
  },
];

for (
  const { label, request, message, code = Code.invalidArgument } of badInfers
) {
  test(`KServe: ModelInfer refuses ${label}`, async () => {
    await rejects(infer(request), { code, message });
  });
}

test("KServe: liveness, readiness and metadata", async () => {
  equal((await callUnary(kserve.serverLive.bind(kserve), {})).live, true);
  equal((await callUnary(kserve.serverReady.bind(kserve), {})).ready, true);
  const name = { name: "demo", version: "" };
  equal((await callUnary(kserve.modelReady.bind(kserve), name)).ready, true);
  equal(
    (await callUnary(kserve.serverMetadata.bind(kserve), {})).name,
    "quetzal",
  );
  const metadata = await callUnary(kserve.modelMetadata.bind(kserve), name);
  deepEqual(metadata.inputs, [{
    name: "text_input",
    datatype: "BYTES",
    shape: [1n],
  }]);
  await rejects(
    callUnary(kserve.modelReady.bind(kserve), { name: "x", version: "" }),
    {
      code: Code.notFound,
    },
  );
});

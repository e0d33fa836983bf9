/** Embeddings: OpenAI's client, both doors, groups, workers that die, queues, refusals. */
import { deepEqual, equal, ok, rejects } from "node:assert/strict";
import OpenAI, { BadRequestError } from "openai";
import { OpenAIEmbeddings } from "@langchain/openai";
import { afterEach, test } from "vitest";
import type { TrafficReport, WakeMessage } from "../../../lib/bus/mod.ts";
import { Code, MeshError } from "../../../lib/errors/mesh_error.ts";
import { callUnary, connect } from "../../../lib/rpc/mod.ts";
import { waitFor } from "../../../lib/testing/mod.ts";
import type { EmbedRunRequest } from "../../../proto/gen/quetzal/v1/embed.ts";
import {
  EmbedRequest,
  InferenceClient,
} from "../../../proto/gen/quetzal/v1/inference.ts";
import type { RouterConfig } from "../config.ts";
import {
  type TestRouter,
  testRouter,
  type TestWorkerOptions,
} from "../testing/demo.ts";
import type { FakeDecode } from "../testing/fake_decode.ts";
import {
  type EmbedScript,
  rawVector,
  vectorsOf,
} from "../testing/fake_embed.ts";

let mesh: TestRouter;
afterEach(() => mesh[Symbol.asyncDispose]());

const path = "/v1/embeddings";
const model = "demo";

async function start(settings: Partial<RouterConfig> = {}): Promise<void> {
  mesh = await testRouter(settings);
}

interface EmbedWorker {
  readonly worker: FakeDecode;
  readonly requests: EmbedRunRequest[];
}

/** A worker that embeds; `before` may throw, wait, or do harm. */
async function embedder(
  options: Partial<TestWorkerOptions> = {},
  before: (self: EmbedWorker, ...call: Parameters<EmbedScript>) => unknown =
    () => {},
): Promise<EmbedWorker> {
  const requests: EmbedRunRequest[] = [];
  const { hiddenSize } = mesh.model;
  const worker: FakeDecode = await mesh.worker({
    script: () => "stop",
    async embed(request, call) {
      requests.push(request);
      await before(self, request, call);
      return vectorsOf(request, hiddenSize);
    },
    ...options,
  });
  const self = { worker, requests };
  return self;
}

function client(): OpenAI {
  return new OpenAI({
    baseURL: `${mesh.url}/v1`,
    apiKey: "none",
    maxRetries: 0,
  });
}

/** What the worker answered for the text, scaled to length 1. */
function expected(text: string): number[] {
  const ids = [...mesh.model.tokenizer.encode(text)];
  const raw = rawVector(ids, mesh.model.hiddenSize);
  const length = Math.hypot(...raw);
  return raw.map((value) => value / length);
}

function close(found: readonly number[], wanted: readonly number[]): void {
  equal(found.length, wanted.length);
  const worst = Math.max(
    ...wanted.map((value, i) => Math.abs(value - found[i])),
  );
  ok(worst < 1e-6, `differs by ${worst}`);
}

test("openai: base64, its default, and float give the same vectors in order", async () => {
  await start();
  await embedder();
  const input = ["The fox.", "A whale", "Grüße, 世界! 👩‍🚀"];
  const packed = await client().embeddings.create({ model, input });
  const plain = await client().embeddings.create({
    model,
    input,
    encoding_format: "float",
  });
  deepEqual(plain.data.map(({ index }) => index), [0, 1, 2]);
  for (const [i, { embedding, object }] of plain.data.entries()) {
    equal(object, "embedding");
    close(embedding, expected(input[i]));
    deepEqual([...packed.data[i].embedding], embedding);
  }
  const tokens = input.reduce(
    (sum, text) => sum + mesh.model.tokenizer.encode(text).length,
    0,
  );
  equal(plain.usage.prompt_tokens, tokens);
  equal(plain.usage.total_tokens, tokens);
  deepEqual([plain.model, plain.object], [model, "list"]);
});

test("openai: one text, ids and lists of ids go through as they are", async () => {
  await start();
  const { requests } = await embedder();
  const sent = () => requests.at(-1)?.prompts.map(({ ids }) => [...ids]);
  const { data } = await client().embeddings.create({ model, input: "Hi" });
  equal(data.length, 1);
  deepEqual(sent(), [[...mesh.model.tokenizer.encode("Hi")]]);
  await client().embeddings.create({ model, input: [5, 6, 7] });
  deepEqual(sent(), [[5, 6, 7]]);
  const { usage } = await client().embeddings.create({
    model,
    input: [[5, 6], [7]],
  });
  deepEqual(sent(), [[5, 6], [7]]);
  equal(usage.prompt_tokens, 3);
});

test("openai: dimensions are taken when they are the model's", async () => {
  await start();
  await embedder();
  const dimensions = mesh.model.hiddenSize;
  const body = { model, input: "Hi" };
  const { data } = await client().embeddings.create({ ...body, dimensions });
  equal(data[0].embedding.length, dimensions);
  await rejects(
    client().embeddings.create({ ...body, dimensions: dimensions - 1 }),
    (error) => error instanceof BadRequestError && error.param === "dimensions",
  );
});

test("normalize: false gives the values as the worker has them", async () => {
  await start();
  await embedder();
  const response = await mesh.post(path, {
    input: [5, 6],
    normalize: false,
  });
  const { data } = await response.json();
  deepEqual(data[0].embedding, rawVector([5, 6], mesh.model.hiddenSize));
});

test("LangChain's OpenAIEmbeddings embeds documents and queries", async () => {
  await start();
  await embedder();
  const embeddings = new OpenAIEmbeddings({
    model,
    apiKey: "none",
    maxRetries: 0,
    configuration: { baseURL: `${mesh.url}/v1` },
  });
  close(await embeddings.embedQuery("The fox."), expected("The fox."));
  const [first, second] = await embeddings.embedDocuments(["One", "Two"]);
  close(first, expected("One"));
  close(second, expected("Two"));
});

test("many inputs travel in groups over all workers, and come back in order", async () => {
  await start();
  const workers = [
    await embedder({ role: "prefill" }, () => pause(5)),
    await embedder({ role: "prefill" }, () => pause(1)),
    await embedder(),
  ];
  await waitFor(async () => (await listed()).prefillWorkers === 2);
  const input = Array.from({ length: 300 }, (_, i) => `Text number ${i}`);
  const { data } = await client().embeddings.create({ model, input });
  data.forEach(({ embedding }, i) => close(embedding, expected(input[i])));
  const counts = workers.map(({ requests }) => requests.length);
  ok(counts[0] > 0 && counts[1] > 0, `${counts}`);
  // Prefill workers come first while they have a place.
  equal(counts[2], 0);
  const sizes = workers.flatMap(({ requests }) =>
    requests.map(({ prompts }) => prompts.length)
  );
  equal(Math.max(...sizes), 32);
  equal(sizes.reduce((a, b) => a + b), 300);
});

async function listed() {
  const grpc = connect(InferenceClient, `127.0.0.1:${mesh.router.grpcPort}`);
  const { models } = await callUnary(grpc.listModels.bind(grpc), {});
  grpc.close();
  return models[0];
}

const deaths: [string, (self: EmbedWorker) => unknown][] = [
  ["its connections break", ({ worker }) => worker.crash()],
  ["it goes down", () => {
    throw new MeshError(Code.unavailable, "shutting down");
  }],
  ["it fails inside", () => {
    throw new MeshError(Code.internal, "engine fault");
  }],
  ["its model leaves", () => {
    throw new MeshError(Code.unavailable, "leaving", { field: "model" });
  }],
  ["its queue is full", () => {
    throw new MeshError(Code.resourceExhausted, "full");
  }],
];

test.for(deaths)("another worker is asked when %s", async ([_, act]) => {
  await start();
  let failures = 0;
  const before = (self: EmbedWorker) => {
    if (failures++ === 0) return act(self);
  };
  await embedder({}, before);
  await embedder({}, before);
  const { data } = await client().embeddings.create({ model, input: "Hi" });
  close(data[0].embedding, expected("Hi"));
  equal(failures, 2);
});

test("the only prefill worker dies: a decode worker takes over", async () => {
  await start();
  const prefill = await embedder(
    { role: "prefill" },
    ({ worker }) => worker.crash(),
  );
  const decode = await embedder();
  const { data } = await client().embeddings.create({ model, input: "Hi" });
  close(data[0].embedding, expected("Hi"));
  deepEqual([prefill.requests.length, decode.requests.length], [1, 1]);
});

test("a worker without decode workers beside it is enough", async () => {
  await start();
  await embedder({ role: "prefill" });
  const { data } = await client().embeddings.create({ model, input: "Hi" });
  equal(data.length, 1);
});

test("an answer of the wrong shape is not used", async () => {
  await start({ attemptsMax: 2 });
  const bad: EmbedScript = (request) => vectorsOf(request, 3);
  await embedder({ embed: bad });
  const response = await mesh.post(path, { input: "Hi" });
  equal(response.status, 500);
  await embedder();
  equal((await mesh.post(path, { input: "Hi" })).status, 200);
});

test("a worker's refusal of the request itself is passed on", async () => {
  await start();
  const { requests } = await embedder({}, () => {
    throw new MeshError(Code.invalidArgument, "too long", { field: "x" });
  });
  const response = await mesh.post(path, { input: "Hi" });
  const { error } = await response.json();
  deepEqual([response.status, error.message, error.param], [
    400,
    "too long",
    "x",
  ]);
  equal(requests.length, 1);
});

test("the first group that fails ends the others", async () => {
  await start();
  const aborted: number[] = [];
  await embedder({}, async (_self, { prompts }, call) => {
    if (prompts[0].ids[0] === 1) {
      await pause(20);
      throw new MeshError(Code.invalidArgument, "poison");
    }
    await new Promise<void>((resolve) =>
      call.signal.addEventListener("abort", () => resolve())
    );
    aborted.push(prompts[0].ids[0]);
  });
  const input = Array.from({ length: 4 }, (_, i) => [i, ...Array(800).fill(9)]);
  const wide = input.flatMap((ids) => Array(6).fill(ids));
  equal((await mesh.post(path, { input: wide })).status, 400);
  await waitFor(() => aborted.length === 3, { what: "aborted groups" });
});

test("a client that goes cancels the worker's call", async () => {
  await start();
  let cancelled = false;
  const { requests } = await embedder(
    {},
    (_self, _request, { signal }) =>
      new Promise<void>((resolve) =>
        signal.addEventListener("abort", () => {
          cancelled = true;
          resolve();
        })
      ),
  );
  const controller = new AbortController();
  const answer = mesh.post(path, { input: "Hi" }, {
    signal: controller.signal,
  });
  await waitFor(() => requests.length === 1, { what: "a call" });
  controller.abort();
  await rejects(answer);
  await waitFor(() => cancelled, { what: "its end", timeoutMs: 1_000 });
});

test("held requests wake the autoscaler, count as traffic, and are answered when a worker comes", async () => {
  await start();
  const stop = new AbortController();
  const wakes: WakeMessage[] = [];
  const reports: TrafficReport[] = [];
  const listening = Promise.allSettled([
    (async () => {
      const all = mesh.bus.subscribeWake(stop.signal);
      for await (const wake of all) wakes.push(wake);
    })(),
    (async () => {
      const all = mesh.bus.subscribeTraffic(stop.signal);
      for await (const report of all) reports.push(report);
    })(),
  ]);
  const answer = mesh.post(path, { input: ["One", "Two"] });
  await waitFor(() => wakes.length >= 2, { what: "two wakes" });
  await embedder();
  equal((await answer).status, 200);
  deepEqual([wakes[0].model, wakes[0].held], ["demo", 1]);
  await waitFor(() => reports.some(({ completions }) => completions === 1), {
    what: "a report of its end",
  });
  const arrived = reports.find(({ arrivals }) => arrivals === 1);
  ok(arrived!.promptTokens > 0 && arrived!.held === 1);
  stop.abort();
  await listening;
});

test("no worker within the hold: 503; a full queue: 429; both say when to try again", async () => {
  await start({ holdMs: 300, heldMax: 1 });
  const held = mesh.post(path, { input: "Hi" });
  await waitFor(async () => {
    const text = await (await fetch(`${mesh.url}/metrics`)).text();
    return /num_requests_waiting\{.*\} 1/.test(text);
  });
  const refused = await mesh.post(path, { input: "Hi" });
  deepEqual([refused.status, (await refused.json()).error.code], [
    429,
    "queue_full",
  ]);
  ok(Number(refused.headers.get("retry-after")) >= 1);
  const late = await held;
  deepEqual([late.status, (await late.json()).error.code], [503, "no_worker"]);
  ok(Number(late.headers.get("retry-after")) >= 1);
});

test("more inputs at once than the router runs: 429", async () => {
  await start({ sequencesMax: 64 });
  await embedder();
  const input = Array(65).fill("Hi");
  const refused = await mesh.post(path, { input });
  equal(refused.status, 429);
  equal((await mesh.post(path, { input: input.slice(1) })).status, 200);
});

test("inputs count towards the sequences of a worker: further groups wait", async () => {
  await start({ workerSequencesMax: 40 });
  let running = 0;
  let peak = 0;
  await embedder({}, async (_self, { prompts }) => {
    running += prompts.length;
    peak = Math.max(peak, running);
    await pause(5);
    running -= prompts.length;
  });
  const input = Array(200).fill("Hi");
  const { data } = await client().embeddings.create({ model, input });
  equal(data.length, 200);
  // A group may start while there is room for one of its inputs.
  ok(peak <= 64, `${peak} ran at once`);
});

test("/metrics count embeddings like other requests", async () => {
  await start();
  await embedder();
  await client().embeddings.create({ model, input: ["One", "Two"] });
  const text = await (await fetch(`${mesh.url}/metrics`)).text();
  const value = (name: string) =>
    Number(new RegExp(`^${name} (\\S+)$`, "m").exec(text)?.[1]);
  const label = 'model_name="demo"';
  equal(
    value(
      `quetzal:request_success_total{${label},finished_reason="embedding"}`,
    ),
    1,
  );
  equal(value(`quetzal:request_prompt_tokens_count{${label}}`), 2);
  equal(value(`quetzal:e2e_request_latency_seconds_count{${label}}`), 1);
  equal(value(`quetzal:num_requests_running{${label}}`), 0);
  equal(value(`quetzal:num_requests_waiting{${label}}`), 0);
});

type Bad = readonly [
  label: string,
  body: unknown,
  param: string | null,
  code?: string,
  status?: number,
];

const hostile: readonly Bad[] = [
  ["no input", {}, "input"],
  ["null", { input: null }, "input"],
  ["an empty text", { input: "" }, "input"],
  ["an empty list", { input: [] }, "input"],
  ["an empty text in a list", { input: ["a", ""] }, "input[1]"],
  ["an empty list of ids", { input: [[5], []] }, "input[1]"],
  ["a number", { input: 5 }, "input"],
  ["an object", { input: { text: "a" } }, "input"],
  ["mixed forms", { input: ["a", 5] }, "input[1]"],
  ["ids, then a text", { input: [5, "a"] }, "input[1]"],
  ["lists of ids, then a text", { input: [[5], "a"] }, "input[1]"],
  ["a nested text", { input: [["a"]] }, "input[0][0]"],
  ["a negative id", { input: [-1] }, "input[0]"],
  ["a fraction", { input: [1.5] }, "input[0]"],
  ["an id beyond the vocabulary", { input: [99_999_999] }, "input"],
  ["the same in a list", { input: [[5], [99_999_999]] }, "input[1]"],
  ["a huge id", { input: [2 ** 40] }, "input[0]"],
  ["a lone surrogate", { input: "a\ud800b" }, "input"],
  ["too many inputs", { input: Array(2_049).fill("a") }, "input"],
  [
    "a text longer than the context",
    { input: "word ".repeat(3_000) },
    "input",
    "context_length_exceeded",
  ],
  [
    "the same among others",
    { input: ["a", "word ".repeat(3_000)] },
    "input[1]",
    "context_length_exceeded",
  ],
  [
    "ids longer than the context",
    { input: Array(1_025).fill(5) },
    "input",
    "context_length_exceeded",
  ],
  [
    "another format",
    { input: "a", encoding_format: "int8" },
    "encoding_format",
  ],
  [
    "a format that is no text",
    { input: "a", encoding_format: 1 },
    "encoding_format",
  ],
  ["dimensions of 0", { input: "a", dimensions: 0 }, "dimensions"],
  ["dimensions as text", { input: "a", dimensions: "256" }, "dimensions"],
  ["other dimensions", { input: "a", dimensions: 64 }, "dimensions"],
  ["a user that is no text", { input: "a", user: {} }, "user"],
  ["normalize as text", { input: "a", normalize: "yes" }, "normalize"],
  [
    "truncation",
    { input: "a", truncate_prompt_tokens: 5 },
    "truncate_prompt_tokens",
    "unsupported_field",
  ],
  ["an unknown field", { input: "a", inputs: "b" }, "inputs", "unknown_field"],
  ["a chat's field", { input: "a", messages: [] }, "messages", "unknown_field"],
  [
    "an unknown model",
    { input: "a", model: "nope" },
    "model",
    "model_not_found",
    404,
  ],
  ["a model that is no text", { input: "a", model: 5 }, "model"],
];

test("hostile bodies are refused by field, and no worker hears of them", async () => {
  await start();
  const { requests } = await embedder();
  for (
    const [label, body, param, code = "invalid_value", status = 400] of hostile
  ) {
    const response = await mesh.post(path, body);
    const { error } = await response.json();
    deepEqual(
      { status: response.status, param: error?.param, code: error?.code },
      { status, param, code },
      `${label}: ${error?.message}`,
    );
  }
  equal(requests.length, 0);
  equal((await fetch(mesh.url + path)).status, 405);
  const broken = await mesh.post(path, '{"input":');
  equal((await broken.json()).error.code, "invalid_json");
});

test("a body beyond the limit is 413", async () => {
  await start({ bodyBytesMax: 10_000 });
  const response = await mesh.post(path, { input: "a".repeat(20_000) });
  equal(response.status, 413);
});

async function embedOverGrpc(
  request: Parameters<typeof EmbedRequest.fromPartial>[0],
  options: { deadlineMs?: number } = {},
) {
  const grpc = connect(InferenceClient, `127.0.0.1:${mesh.router.grpcPort}`);
  using _ = { [Symbol.dispose]: () => grpc.close() };
  const message = EmbedRequest.fromPartial(request);
  return await callUnary(grpc.embed.bind(grpc), message, options);
}

const text = (value: string) => ({ input: { $case: "text" as const, value } });
const tokens = (ids: number[]) => ({
  input: { $case: "tokens" as const, value: { ids } },
});

test("gRPC: texts and ids, scaled unless the caller wants them as they are", async () => {
  await start();
  await embedder();
  const inputs = [text("The fox."), tokens([5, 6, 7])];
  const scaled = await embedOverGrpc({ model, inputs });
  close(scaled.embeddings[0].values, expected("The fox."));
  equal(scaled.model, "demo");
  deepEqual(
    scaled.embeddings.map(({ promptTokens }) => promptTokens),
    [mesh.model.tokenizer.encode("The fox.").length, 3],
  );
  equal(scaled.promptTokens, scaled.embeddings[0].promptTokens + 3);
  equal(scaled.cachedTokens, 2);
  const raw = await embedOverGrpc({ inputs, normalize: false });
  deepEqual(
    raw.embeddings[1].values,
    rawVector([5, 6, 7], mesh.model.hiddenSize),
  );
});

test("gRPC: refusals name code and field", async () => {
  await start();
  await embedder();
  const cases: [
    Parameters<typeof EmbedRequest.fromPartial>[0],
    string,
    number?,
  ][] = [
    [{}, "inputs"],
    [{ inputs: [{}] }, "inputs[0].text"],
    [{ inputs: [text("a"), text("")] }, "inputs[1].text"],
    [{ inputs: [tokens([])] }, "inputs[0].tokens.ids"],
    [{ inputs: [tokens([5, -1])] }, "inputs[0].tokens.ids[1]"],
    [{ inputs: [tokens([99_999_999])] }, "inputs[0].tokens.ids"],
    [{ inputs: [text("word ".repeat(3_000))] }, "inputs[0].text"],
    [{ inputs: Array(2_049).fill(text("a")) }, "inputs"],
    [{ inputs: [text("a")], model: "nope" }, "model", Code.notFound],
  ];
  for (const [request, field, code = Code.invalidArgument] of cases) {
    await rejects(embedOverGrpc(request), { code, field }, field);
  }
});

test("gRPC: a deadline ends the call here and at the worker", async () => {
  await start();
  let cancelled = false;
  await embedder(
    {},
    (_self, _request, { signal }) =>
      new Promise<void>((resolve) =>
        signal.addEventListener("abort", () => {
          cancelled = true;
          resolve();
        })
      ),
  );
  await rejects(
    embedOverGrpc({ inputs: [text("a")] }, { deadlineMs: Date.now() + 200 }),
    { code: Code.deadlineExceeded },
  );
  await waitFor(() => cancelled, { what: "the worker's end" });
});

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

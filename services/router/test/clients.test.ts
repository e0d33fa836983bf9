/** The npm clients people use, against a whole router and scripted workers. */
import { deepEqual, equal, ok, rejects } from "node:assert/strict";
import { ChatOpenAI } from "@langchain/openai";
import OpenAI, { APIUserAbortError, BadRequestError } from "openai";
import { afterAll, beforeAll, test } from "vitest";
import { waitFor } from "../../../lib/testing/mod.ts";
import { says, type TestRouter, testRouter } from "../testing/demo.ts";
import type { FakeDecode } from "../testing/fake_decode.ts";

let mesh: TestRouter;
let worker: FakeDecode;
let openai: OpenAI;
const story = "Grüße, 世界! Pip the fox 👩‍🚀 ran home.\nThe end.";
const model = "demo";
const messages = [{ role: "user" as const, content: "Tell me a story." }];

beforeAll(async () => {
  mesh = await testRouter();
  worker = await mesh.worker({ script: says(mesh.model, story), tokenMs: 1 });
  openai = new OpenAI({
    baseURL: `${mesh.url}/v1`,
    apiKey: "none",
    maxRetries: 0,
  });
});
afterAll(() => mesh[Symbol.asyncDispose]());

const lastRequest = () => worker.requests.at(-1)!;

test("openai: a chat answer with usage", async () => {
  const answer = await openai.chat.completions.create({ model, messages });
  equal(answer.object, "chat.completion");
  equal(answer.model, model);
  const [choice] = answer.choices;
  deepEqual(
    [
      choice.index,
      choice.message.role,
      choice.message.content,
      choice.finish_reason,
      choice.logprobs,
    ],
    [0, "assistant", story, "stop", null],
  );
  const promptTokens = lastRequest().promptIds.length;
  const tokens =
    mesh.model.tokenizer.encode(story, { addSpecial: false }).length;
  deepEqual({ ...answer.usage }, {
    prompt_tokens: promptTokens,
    completion_tokens: tokens,
    total_tokens: promptTokens + tokens,
    prompt_tokens_details: { cached_tokens: 16 },
  });
});

test("openai: the stream's chunks are the answer, usage comes last", async () => {
  const whole = await openai.chat.completions.create({ model, messages });
  const stream = await openai.chat.completions.create({
    model,
    messages,
    stream: true,
    stream_options: { include_usage: true },
  });
  const chunks = [];
  for await (const chunk of stream) chunks.push(chunk);
  equal(
    chunks.map(({ choices }) => choices[0]?.delta.content ?? "").join(""),
    story,
  );
  equal(chunks[0].choices[0].delta.role, "assistant");
  equal(
    new Set(chunks.map(({ id, object, created }) => `${id}${object}${created}`))
      .size,
    1,
  );
  deepEqual(
    chunks.slice(0, -1).map(({ usage }) => usage).filter((usage) =>
      usage !== null
    ),
    [],
  );
  equal(chunks.at(-2)?.choices[0].finish_reason, "stop");
  deepEqual([chunks.at(-1)?.choices, chunks.at(-1)?.usage], [[], whole.usage]);
});

test("openai: the stream helper assembles the same message", async () => {
  const final = await openai.chat.completions.stream({ model, messages })
    .finalChatCompletion();
  equal(final.choices[0].message.content, story);
});

test("openai: sampling reaches the worker, n choices are sampled with seeds in a row", async () => {
  const before = worker.requests.length;
  const answer = await openai.chat.completions.create({
    model,
    messages,
    n: 3,
    seed: -1,
    temperature: 0.5,
    top_p: 0.25,
    presence_penalty: 1,
    frequency_penalty: -1,
    max_completion_tokens: 5,
    logit_bias: { "7": -100 },
  });
  deepEqual(
    answer.choices.map(({ index, finish_reason }) => [index, finish_reason]),
    [
      [0, "length"],
      [1, "length"],
      [2, "length"],
    ],
  );
  const sent = worker.requests.slice(before).map(({ sampling, maxTokens }) => ({
    ...sampling!,
    maxTokens,
  }));
  deepEqual(sent.map(({ seed }) => seed).sort(), [0n, 1n, 2n ** 64n - 1n]);
  const [
    {
      temperature,
      topP,
      presencePenalty,
      frequencyPenalty,
      logitBias,
      maxTokens,
    },
  ] = sent;
  deepEqual(
    {
      temperature,
      topP,
      presencePenalty,
      frequencyPenalty,
      logitBias,
      maxTokens,
    },
    {
      temperature: 0.5,
      topP: 0.25,
      presencePenalty: 1,
      frequencyPenalty: -1,
      logitBias: { "7": -100 },
      maxTokens: 5,
    },
  );
  equal(answer.usage?.completion_tokens, 15);
});

test("requests without a seed get different ones, drawn once", async () => {
  await Promise.all(
    [1, 2].map(() => openai.chat.completions.create({ model, messages })),
  );
  const [a, b] = worker.requests.slice(-2).map(({ sampling }) =>
    sampling!.seed
  );
  ok(a !== b && a !== 0n);
});

for (const stream of [false, true]) {
  test(`openai: stop strings cut exactly, usage counts what was generated (stream: ${stream})`, async () => {
    const body = { model, messages, stop: ["nothing", "\nThe"] };
    let text = "";
    let reason: string | null = "";
    if (stream) {
      for await (
        const chunk of await openai.chat.completions.create({ ...body, stream })
      ) {
        text += chunk.choices[0].delta.content ?? "";
        reason = chunk.choices[0].finish_reason;
      }
    } else {
      const [choice] = (await openai.chat.completions.create(body)).choices;
      [text, reason] = [choice.message.content ?? "", choice.finish_reason];
    }
    deepEqual([text, reason], [story.slice(0, story.indexOf("\nThe")), "stop"]);
    await waitFor(() => worker.running === 0, { what: "a freed sequence" });
  });
}

test("openai: log-probabilities belong to the text beside them", async () => {
  const body = {
    model,
    messages,
    logprobs: true,
    top_logprobs: 2,
    stop: ["ran"],
  };
  const answer = await openai.chat.completions.create(body);
  const content = answer.choices[0].logprobs?.content ?? [];
  const bytes = content.flatMap(({ bytes }) => bytes ?? []);
  const text = new TextDecoder().decode(Uint8Array.from(bytes));
  // The token that holds the cut may reach beyond it.
  ok(text.startsWith(answer.choices[0].message.content ?? "?"), text);
  for (const [i, { logprob, top_logprobs }] of content.entries()) {
    equal(logprob, -0.25 * (i + 1));
    deepEqual(top_logprobs.map(({ logprob }) => logprob), [-0.25, -1.25]);
  }
  const streamed = [];
  for await (
    const chunk of await openai.chat.completions.create({
      ...body,
      stream: true,
    })
  ) {
    streamed.push(...chunk.choices[0].logprobs?.content ?? []);
  }
  deepEqual(streamed, content);
});

test("openai: text completions of several prompts, with the older log-probabilities", async () => {
  const body = {
    model,
    prompt: ["One", "Two"],
    n: 2,
    max_tokens: 6,
    logprobs: 1,
  };
  const answer = await openai.completions.create(body);
  deepEqual(answer.choices.map(({ index }) => index), [0, 1, 2, 3]);
  const [{ text, logprobs }] = answer.choices;
  ok(story.startsWith(text) && text !== "");
  equal(logprobs?.tokens?.length, 6);
  deepEqual(logprobs?.token_logprobs, [-0.25, -0.5, -0.75, -1, -1.25, -1.5]);
  equal(logprobs?.text_offset?.[0], 0);
  ok(
    logprobs?.text_offset?.every((offset, i, all) =>
      i === 0 || offset >= all[i - 1]
    ),
  );
  equal(Object.values(logprobs?.top_logprobs?.[0] ?? {})[0], -0.25);
  equal(answer.usage?.completion_tokens, 24);

  const texts = ["", "", "", ""];
  const stream = await openai.completions.create({ ...body, stream: true });
  for await (const { choices: [choice] } of stream) {
    texts[choice.index] += choice.text;
  }
  deepEqual(texts, answer.choices.map(({ text }) => text));
});

test("openai: text completions stop at 16 tokens unless told otherwise, ids go through as they are", async () => {
  const answer = await openai.completions.create({ model, prompt: [5, 6, 7] });
  equal(
    answer.usage?.completion_tokens,
    Math.min(16, answer.usage?.completion_tokens ?? 0),
  );
  deepEqual([...lastRequest().promptIds], [5, 6, 7]);
  equal(lastRequest().maxTokens, 16);
});

test("openai: without max_tokens a chat may fill the context", async () => {
  await openai.chat.completions.create({ model, messages });
  equal(lastRequest().maxTokens, 1_024 - lastRequest().promptIds.length);
});

test("openai: aborting a stream cancels the decode call at once", async () => {
  const slow = await testRouter();
  await using _slow = slow;
  const endless = await slow.worker({ script: () => 300, tokenMs: 5 });
  const client = new OpenAI({
    baseURL: `${slow.url}/v1`,
    apiKey: "none",
    maxRetries: 0,
  });
  const controller = new AbortController();
  const stream = await client.chat.completions.create(
    { model, messages, stream: true },
    { signal: controller.signal },
  );
  let chunks = 0;
  await rejects(async () => {
    for await (const _ of stream) if (++chunks === 3) controller.abort();
    throw new APIUserAbortError();
  }, APIUserAbortError);
  ok(chunks < 100);
  await waitFor(() => endless.running === 0, {
    what: "the cancelled sequence",
    timeoutMs: 1_000,
  });
  ok(endless.written < 100, `${endless.written} tokens were made`);
});

test("openai: closing the connection of a plain request cancels as well", async () => {
  await using slow = await testRouter();
  const endless = await slow.worker({ script: () => 300, tokenMs: 5 });
  const controller = new AbortController();
  const answer = slow.post("/v1/chat/completions", { model, messages }, {
    signal: controller.signal,
  });
  await waitFor(() => endless.running === 1, { what: "a running sequence" });
  controller.abort();
  await rejects(answer);
  await waitFor(() => endless.running === 0, {
    what: "the cancelled sequence",
    timeoutMs: 1_000,
  });
});

test("openai: a refusal is the client's typed error, with field and code", async () => {
  await rejects(
    openai.chat.completions.create({ model, messages, temperature: -1 }),
    (error) => {
      ok(error instanceof BadRequestError);
      deepEqual([error.param, error.code, error.type], [
        "temperature",
        "invalid_value",
        "invalid_request_error",
      ]);
      return true;
    },
  );
});

test("openai: models are listed and retrieved", async () => {
  const ids = [];
  for await (const { id } of openai.models.list()) ids.push(id);
  deepEqual(ids, [model]);
  equal((await openai.models.retrieve(model)).owned_by, "quetzal");
});

test("LangChain's ChatOpenAI invokes and streams", async () => {
  const chat = new ChatOpenAI({
    model,
    apiKey: "none",
    maxRetries: 0,
    configuration: { baseURL: `${mesh.url}/v1` },
  });
  const whole = await chat.invoke("Tell me a story.");
  equal(whole.content, story);
  let text = "";
  for await (const chunk of await chat.stream("Tell me a story.")) {
    text += chunk.content;
  }
  equal(text, story);
});

test("answers carry the request's id, the client's own when it is usable", async () => {
  const id = async (value: string) => {
    const response = await mesh.post("/tokenize", { prompt: "a" }, {
      headers: { "content-type": "application/json", "x-request-id": value },
    });
    return response.headers.get("x-request-id");
  };
  equal(await id("abc-1"), "abc-1");
  ok(/^[0-9a-f-]{36}$/.test(await id("a b") ?? ""));
});

test("/metrics counts under the names of vLLM", async () => {
  await openai.chat.completions.create({ model, messages });
  const text = await (await fetch(`${mesh.url}/metrics`)).text();
  const value = (name: string) =>
    Number(new RegExp(`^${name} (\\S+)$`, "m").exec(text)?.[1]);
  ok(value('quetzal:generation_tokens_total{model_name="demo"}') > 100, text);
  ok(value('quetzal:time_to_first_token_seconds_count{model_name="demo"}') > 5);
  ok(
    value(
      'quetzal:request_success_total{model_name="demo",finished_reason="stop"}',
    ) > 3,
  );
  for (
    const name of [
      "request_inference_time_seconds",
      "request_params_max_tokens",
      "request_params_n",
    ]
  ) ok(value(`quetzal:${name}_count{model_name="demo"}`) > 5, name);
  // All tokens but the first of each sequence.
  equal(
    value('quetzal:inter_token_latency_seconds_count{model_name="demo"}'),
    value('quetzal:generation_tokens_total{model_name="demo"}') -
      value('quetzal:time_to_first_token_seconds_count{model_name="demo"}'),
  );
  equal(value('quetzal:num_requests_running{model_name="demo"}'), 0);
  equal(value('quetzal:num_requests_waiting{model_name="demo"}'), 0);
});

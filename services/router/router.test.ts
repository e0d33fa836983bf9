import { deepEqual, equal, ok, rejects } from "node:assert/strict";
import { afterEach, test } from "vitest";
import OpenAI, { APIUserAbortError } from "openai";
import { ChatOpenAI } from "@langchain/openai";
import { waitFor } from "../../lib/testing/mod.ts";
import { says, type TestRouter, testRouter } from "./testing/demo.ts";

let mesh: TestRouter;
afterEach(() => mesh[Symbol.asyncDispose]());

const story = "Grüße, 世界! Pip the fox 👩‍🚀 ran home. The end.";
const messages = [{ role: "user" as const, content: "Tell me a story." }];

function openai(): OpenAI {
  return new OpenAI({
    baseURL: `${mesh.url}/v1`,
    apiKey: "none",
    maxRetries: 0,
  });
}

test("openai: a chat answer, whole and streamed", async () => {
  mesh = await testRouter();
  const worker = await mesh.worker({ script: says(mesh.model, story) });
  const whole = await openai().chat.completions.create({
    model: "demo",
    messages,
  });
  equal(whole.choices[0].message.content, story);
  equal(whole.choices[0].finish_reason, "stop");
  const stream = await openai().chat.completions.create({
    model: "demo",
    messages,
    stream: true,
    stream_options: { include_usage: true },
  });
  let text = "";
  const usages = [];
  for await (const chunk of stream) {
    text += chunk.choices[0]?.delta.content ?? "";
    if (chunk.usage) usages.push(chunk.usage);
  }
  equal(text, story);
  deepEqual(usages, [whole.usage]);
  equal(worker.requests.length, 2);
});

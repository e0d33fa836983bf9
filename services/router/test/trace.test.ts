/** One trace from the client's `traceparent` to the decode call. */
import { deepEqual, equal, ok } from "node:assert/strict";
import { context, propagation, trace } from "@opentelemetry/api";
import {
  InMemorySpanExporter,
  NodeTracerProvider,
  SimpleSpanProcessor,
} from "@opentelemetry/sdk-trace-node";
import { afterAll, afterEach, beforeAll, test } from "vitest";
import { Code, MeshError } from "../../../lib/errors/mesh_error.ts";
import { says, type TestRouter, testRouter } from "../testing/demo.ts";
import type { FakeDecode } from "../testing/fake_decode.ts";
import { vectorsOf } from "../testing/fake_embed.ts";
import { workerRecord } from "../testing/records.ts";

const exporter = new InMemorySpanExporter();
let mesh: TestRouter;
let worker: FakeDecode;
let fails = false;
/** What the last embedding call carried. */
let embedParent = "";

beforeAll(async () => {
  new NodeTracerProvider({
    spanProcessors: [new SimpleSpanProcessor(exporter)],
  }).register();
  mesh = await testRouter();
  worker = await mesh.worker({
    script: says(mesh.model, "Hello."),
    embed(request, { header }) {
      embedParent = header("traceparent") ?? "";
      return vectorsOf(request, mesh.model.hiddenSize);
    },
    onToken: () => {
      if (!fails) return;
      fails = false;
      throw new MeshError(Code.unavailable, "going down");
    },
  });
});
afterEach(() => exporter.reset());
afterAll(async () => {
  await mesh[Symbol.asyncDispose]();
  trace.disable();
  context.disable();
  propagation.disable();
});

const traceId = "4bf92f3577b34da6a3ce929d0e0e4736";
const headers = {
  "content-type": "application/json",
  traceparent: `00-${traceId}-00f067aa0ba902b7-01`,
};
const body = {
  model: "demo",
  messages: [{ role: "user", content: "word ".repeat(100) }],
};

function byName(name: string) {
  return exporter.getFinishedSpans().filter((span) => span.name === name);
}

for (const stream of [false, true]) {
  test(`spans nest from the client to the worker (stream: ${stream})`, async () => {
    const response = await mesh.post("/v1/chat/completions", {
      ...body,
      stream,
    }, { headers });
    equal(response.headers.get("x-trace-id"), traceId);
    await response.text();
    const spans = exporter.getFinishedSpans();
    deepEqual(
      new Set(spans.map((span) => span.spanContext().traceId)),
      new Set([traceId]),
    );
    const [root] = byName("POST /v1/chat/completions");
    const [tokenize] = byName("tokenize");
    const [chat] = byName("chat demo");
    const [route] = byName("route");
    const [decode] = byName("decode");
    equal(root.parentSpanContext?.spanId, "00f067aa0ba902b7");
    equal(tokenize.parentSpanContext?.spanId, root.spanContext().spanId);
    equal(chat.parentSpanContext?.spanId, root.spanContext().spanId);
    equal(route.parentSpanContext?.spanId, chat.spanContext().spanId);
    equal(decode.parentSpanContext?.spanId, chat.spanContext().spanId);
    equal(root.attributes["http.response.status_code"], 200);
    equal(chat.attributes["gen_ai.usage.output_tokens"], 2);
    deepEqual(chat.attributes["gen_ai.response.finish_reasons"], ["stop"]);
    equal(
      worker.calls.at(-1)?.header("traceparent"),
      `00-${traceId}-${decode.spanContext().spanId}-01`,
    );
  });
}

test("the route span tells every candidate's score and why there is no prefill worker", async () => {
  await mesh.post("/v1/chat/completions", body, { headers });
  const [route] = byName("route");
  equal(
    route.attributes["quetzal.routing.prefill_reason"],
    "no prefill worker",
  );
  equal(route.attributes["quetzal.routing.policy"], "prefix-affinity");
  const [candidate] = route.events;
  equal(candidate.attributes?.["quetzal.worker.id"], "decode-0");
  ok(Number.isFinite(candidate.attributes?.["quetzal.routing.score"]));
});

test("an embedding is one span of the conventions, with route and call below it", async () => {
  const input = ["The fox.", "A whale."];
  const response = await mesh.post("/v1/embeddings", {
    input,
    encoding_format: "base64",
    user: "ann",
  }, { headers });
  equal(response.status, 200);
  const { usage } = await response.json();
  const [root] = byName("POST /v1/embeddings");
  const [embeddings] = byName("embeddings demo");
  const [route] = byName("route");
  const [call] = byName("embed");
  equal(embeddings.parentSpanContext?.spanId, root.spanContext().spanId);
  for (const below of [route, call]) {
    equal(
      below.parentSpanContext?.spanId,
      embeddings.spanContext().spanId,
    );
  }
  equal(embedParent, `00-${traceId}-${call.spanContext().spanId}-01`);
  const { attributes } = embeddings;
  equal(attributes["gen_ai.operation.name"], "embeddings");
  equal(attributes["gen_ai.request.model"], "demo");
  deepEqual(attributes["gen_ai.request.encoding_formats"], ["base64"]);
  equal(
    attributes["gen_ai.embeddings.dimension.count"],
    mesh.model.hiddenSize,
  );
  equal(attributes["gen_ai.usage.input_tokens"], usage.prompt_tokens);
  equal(attributes["quetzal.tenant"], "ann");
  ok(!JSON.stringify(attributes).includes("fox"));
});

test("a prefill worker is named to the decode worker", async () => {
  await mesh.bus.putWorker(
    workerRecord("p", { role: "prefill", address: "10.0.0.9:5" }),
  );
  while (worker.requests.at(-1)?.prefillAddress !== "10.0.0.9:5") {
    await mesh.post("/v1/chat/completions", body, { headers });
  }
  equal(
    byName("route").at(-1)?.attributes["quetzal.routing.prefill_worker"],
    "p",
  );
});

test("a replay is a second route and decode span, the failed one says why", async () => {
  fails = true;
  const response = await mesh.post("/v1/chat/completions", body, { headers });
  equal((await response.json()).choices[0].message.content, "Hello.");
  deepEqual(byName("decode").map((span) => span.status.message), [
    "going down",
    undefined,
  ]);
  deepEqual(
    byName("route").map((span) => span.attributes["quetzal.routing.attempt"]),
    [1, 2],
  );
});

test("every token is on the decode span, and no text unless content is captured", async () => {
  await mesh.post("/v1/chat/completions", body, { headers });
  const tokens = byName("decode")[0].events.filter(({ name }) =>
    name === "tokens"
  );
  const letters = tokens.map(({ attributes }) =>
    attributes?.["quetzal.token.provenance"]
  ).join(",");
  equal(letters.replaceAll(",", "").length, 2);
  equal(tokens[0].attributes?.["quetzal.token.texts"], undefined);
  const all = JSON.stringify(
    exporter.getFinishedSpans().map(({ attributes, events }) => [
      attributes,
      events,
    ]),
  );
  ok(!all.includes("word word") && !all.includes("Hello"));
});

test("captured content is the prompt, the answer, and each token's text", async () => {
  await using own = await testRouter({ captureContent: true });
  await own.worker({ script: says(own.model, "Hello.") });
  await own.post("/v1/chat/completions", body, { headers });
  const [tokenize] = byName("tokenize");
  const [chat] = byName("chat demo");
  const [decode] = byName("decode");
  deepEqual(JSON.parse(`${tokenize.attributes["gen_ai.input.messages"]}`), [
    { role: "user", content: "word ".repeat(100) },
  ]);
  equal(chat.attributes["gen_ai.output.messages"], '"Hello."');
  const [event] = decode.events.filter(({ name }) => name === "tokens");
  const texts = JSON.parse(`${event.attributes?.["quetzal.token.texts"]}`);
  equal(texts.join(""), "Hello.");
  equal(`${event.attributes?.["quetzal.token.ids"]}`.split(",").length, 2);
});

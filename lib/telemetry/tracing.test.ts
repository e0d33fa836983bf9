import {
  deepEqual,
  equal,
  match,
  ok,
  rejects,
  throws,
} from "node:assert/strict";
import { context, propagation, trace } from "@opentelemetry/api";
import { setTimeout as delay } from "node:timers/promises";
import { test } from "vitest";
import { Code, MeshError } from "../errors/mesh_error.ts";
import { type OtlpReceiver, startOtlpReceiver } from "../testing/mod.ts";
import {
  contentAttributes,
  createStepEvents,
  extractContext,
  injectContext,
  Keys,
  startSpan,
  startTelemetry,
  type Telemetry,
  withSpan,
} from "./mod.ts";
import { tracesUrl } from "./tracing.ts";

function start(endpoint: string | undefined, rest = {}): Telemetry {
  return startTelemetry({
    service: "router",
    version: "1.2.3",
    endpoint,
    ...rest,
  });
}

function spanNamed(receiver: OtlpReceiver, name: string) {
  const found = receiver.spans.filter((span) => span.name === name);
  equal(found.length, 1, `spans named ${name}`);
  return found[0];
}

test("spans reach the collector with parents, attributes and resource", async () => {
  await using receiver = await startOtlpReceiver();
  const telemetry = start(receiver.endpoint, {
    instanceId: "r-7",
    headers: { "x-key": "k" },
  });
  const tracer = telemetry.tracer();
  await withSpan({
    tracer,
    name: "chat demo",
    kind: "server",
    attributes: { [Keys.operationName]: "chat", [Keys.usageInputTokens]: 12 },
  }, async () => {
    await delay(1);
    withSpan({ tracer, name: "tokenize" }, () => 1);
  });
  await telemetry.shutdown();

  const root = spanNamed(receiver, "chat demo");
  equal(root.parentSpanId, "");
  equal(root.kind, 2);
  deepEqual(root.attributes, {
    "gen_ai.operation.name": "chat",
    "gen_ai.usage.input_tokens": 12,
  });
  deepEqual(root.resource, {
    "service.name": "router",
    "service.namespace": "quetzal",
    "service.version": "1.2.3",
    "service.instance.id": "r-7",
  });
  const child = spanNamed(receiver, "tokenize");
  equal(child.parentSpanId, root.spanId);
  equal(child.traceId, root.traceId);
  equal(receiver.requests[0].url, "/v1/traces");
  equal(receiver.requests[0].headers["x-key"], "k");
});

test("withSpan() records why it failed and lets the failure through", async () => {
  await using receiver = await startOtlpReceiver();
  const telemetry = start(receiver.endpoint);
  const tracer = telemetry.tracer();
  const full = new MeshError(Code.resourceExhausted, "Cannot admit: full");
  await rejects(
    withSpan({ tracer, name: "rejects" }, () => Promise.reject(full)),
    full,
  );
  throws(() =>
    withSpan({ tracer, name: "throws" }, () => {
      throw new TypeError("boom");
    }), TypeError);
  await rejects(
    withSpan(
      { tracer, name: "cancelled" },
      () => Promise.reject(new MeshError(Code.cancelled, "client left")),
    ),
  );
  await telemetry.shutdown();

  const rejected = spanNamed(receiver, "rejects");
  equal(rejected.statusCode, 2);
  equal(rejected.attributes["error.type"], "resourceExhausted");
  equal(
    rejected.events[0].attributes["exception.message"],
    "Cannot admit: full",
  );
  equal(spanNamed(receiver, "throws").attributes["error.type"], "TypeError");
  const cancelled = spanNamed(receiver, "cancelled");
  equal(cancelled.statusCode, 0);
  equal(cancelled.attributes["error.type"], "cancelled");
});

test("a trace passes through carriers from one service to the next", async () => {
  await using receiver = await startOtlpReceiver();
  const telemetry = start(receiver.endpoint);
  const tracer = telemetry.tracer();
  const metadata = new Map<string, string>();
  {
    using client = startSpan({ tracer, name: "client", kind: "client" });
    client.run(() => injectContext((name, value) => metadata.set(name, value)));
    const parent = extractContext((name) => metadata.get(name));
    using _server = startSpan({
      tracer,
      name: "server",
      kind: "server",
      parent,
    });
  }
  await telemetry.shutdown();

  match(metadata.get("traceparent") ?? "", /^00-[0-9a-f]{32}-[0-9a-f]{16}-01$/);
  const client = spanNamed(receiver, "client");
  const server = spanNamed(receiver, "server");
  equal(server.traceId, client.traceId);
  equal(server.parentSpanId, client.spanId);
});

test("a malformed traceparent starts a trace of its own", async () => {
  await using _telemetry = start(undefined);
  const parent = extractContext(() => "00-nonsense");
  equal(trace.getSpanContext(parent), undefined);
});

test("without an endpoint nothing is recorded, and a caller's ids still travel on", async () => {
  await using telemetry = start(undefined);
  equal(telemetry.isRecording, false);
  const tracer = telemetry.tracer();
  const traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
  const parent = extractContext((name) =>
    name === "traceparent" ? traceparent : undefined
  );
  const onward = new Map<string, string>();
  await withSpan({ tracer, name: "handle", parent }, async (span) => {
    equal(span.isRecording(), false);
    await delay(1);
    injectContext((name, value) => onward.set(name, value));
  });
  equal(onward.get("traceparent"), traceparent);
});

test("without an endpoint tracers taken before the start record nothing either", async () => {
  const early = trace.getTracer("a module's");
  await using _telemetry = start(undefined);
  equal(early.startSpan("handle").isRecording(), false);
});

test("shutdown() is bounded when the collector hangs", async () => {
  await using receiver = await startOtlpReceiver({ hang: true });
  const warnings: string[] = [];
  const telemetry = start(receiver.endpoint, {
    shutdownTimeoutMs: 200,
    onWarning: (message: string) => warnings.push(message),
  });
  withSpan({ tracer: telemetry.tracer(), name: "lost" }, () => 1);
  const startMs = performance.now();
  await telemetry.shutdown();
  const tookMs = performance.now() - startMs;
  ok(tookMs >= 190 && tookMs < 1_500, `took ${tookMs} ms`);
  deepEqual(warnings, ["Left spans behind: no answer in 200 ms"]);
});

test("shutdown() survives a collector that is not there", async () => {
  const warnings: string[] = [];
  const telemetry = start("http://127.0.0.1:9", {
    shutdownTimeoutMs: 300,
    onWarning: (message: string) => warnings.push(message),
  });
  withSpan({ tracer: telemetry.tracer(), name: "lost" }, () => 1);
  await telemetry.shutdown();
  ok(warnings.length > 0);
});

test("startTelemetry() runs once at a time, and again after shutdown()", async () => {
  const first = start(undefined);
  throws(() => start(undefined), {
    message: 'Cannot start telemetry of "router": it runs already',
  });
  await first.shutdown();
  deepEqual(propagation.fields(), []);
  equal(context.active(), context.active());
  await start(undefined).shutdown();
});

test("startTelemetry() that fails can be tried again", async () => {
  throws(() => start("collector:port"), {
    name: "RangeError",
    message:
      'Cannot start telemetry: endpoint must be an http URL, is "collector:port"',
  });
  await start(undefined).shutdown();
});

test("tracesUrl() appends the path of the signal", () => {
  equal(tracesUrl("http://c:4318"), "http://c:4318/v1/traces");
  equal(tracesUrl("https://c/otlp/"), "https://c/otlp/v1/traces");
});

test("step events cover a long sequence evenly within their bound", async () => {
  await using receiver = await startOtlpReceiver();
  const telemetry = start(receiver.endpoint);
  {
    using open = startSpan({ tracer: telemetry.tracer(), name: "decode" });
    const steps = createStepEvents(open.span, { eventsMax: 8 });
    for (let i = 0; i < 100; i++) steps.add({ batch: 3 });
    steps.flush();
  }
  await telemetry.shutdown();
  const { events, attributes } = spanNamed(receiver, "decode");
  const indexes = events.map((event) => event.attributes[Keys.stepIndex]);
  deepEqual(indexes, [0, 16, 32, 48, 64, 80, 96]);
  equal(attributes[Keys.stepCount], 100);
  equal(attributes[Keys.stepEventsLeftOut], 93);
  ok(events.every((event) => Math.abs(event.atMs - Date.now()) < 60_000));
});

test("contentAttributes() gives away text only when asked to", () => {
  const content = { input: [{ role: "user", content: "secret" }], output: "x" };
  deepEqual(contentAttributes({ captureContent: false, ...content }), {});
  deepEqual(contentAttributes({ captureContent: true, input: ["a"] }), {
    "gen_ai.input.messages": '["a"]',
  });
});

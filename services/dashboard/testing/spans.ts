import { randomBytes } from "node:crypto";
import { createRequire } from "node:module";
import { SpanStatusCode, trace } from "@opentelemetry/api";
import { resourceFromAttributes } from "@opentelemetry/resources";
import {
  InMemorySpanExporter,
  NodeTracerProvider,
  type ReadableSpan,
  SimpleSpanProcessor,
} from "@opentelemetry/sdk-trace-node";
import { createTokenColumns } from "../../../lib/telemetry/mod.ts";
import type { Span } from "../api_types.ts";

/** What the npm exporters put on the wire; their own serializers make the bytes. */
export interface Serializer {
  serializeRequest(spans: readonly ReadableSpan[]): Uint8Array;
}

const require = createRequire(
  createRequire(import.meta.url).resolve(
    "@opentelemetry/exporter-trace-otlp-proto",
  ),
);
export const { ProtobufTraceSerializer, JsonTraceSerializer } = require(
  "@opentelemetry/otlp-transformer",
) as { ProtobufTraceSerializer: Serializer; JsonTraceSerializer: Serializer };

/** A provider of one service whose spans are taken out by `spans()`. */
export function tracerOf(service: string, instance?: string) {
  const exporter = new InMemorySpanExporter();
  const provider = new NodeTracerProvider({
    resource: resourceFromAttributes({
      "service.name": service,
      ...(instance ? { "service.instance.id": instance } : {}),
    }),
    spanProcessors: [new SimpleSpanProcessor(exporter)],
  });
  return {
    tracer: provider.getTracer("test"),
    spans(): ReadableSpan[] {
      const spans = exporter.getFinishedSpans();
      exporter.reset();
      return spans;
    },
  };
}

export interface DemoRequest {
  readonly model?: string;
  readonly tenant?: string;
  readonly promptTokens?: number;
  readonly outputTokens?: number;
  readonly durationMs?: number;
  readonly startAtMs?: number;
  readonly error?: string;
  readonly prompt?: string;
  readonly texts?: readonly string[];
}

/** The spans of one request as router and decode worker make them. */
export function demoRequest(request: DemoRequest = {}): ReadableSpan[] {
  const {
    model = "demo",
    tenant = "acme",
    promptTokens = 20,
    texts = ["Hel", "lo", " wor", "ld"],
    outputTokens = texts.length,
    durationMs = 100,
    startAtMs = Date.now() - 1_000,
  } = request;
  const router = tracerOf("router", "router-1");
  const worker = tracerOf("decode", "decode-1");
  const at = (ms: number) => startAtMs + ms;
  const under = (span: import("@opentelemetry/api").Span) =>
    trace.setSpan(rootContext, span);
  const root = router.tracer.startSpan("POST /v1/chat/completions", {
    kind: 1,
    startTime: at(0),
    attributes: { "http.response.status_code": request.error ? 503 : 200 },
  }, rootContext);
  const chat = router.tracer.startSpan(`chat ${model}`, {
    startTime: at(1),
    attributes: {
      "gen_ai.operation.name": "chat",
      "gen_ai.request.model": model,
      "gen_ai.response.id": `chatcmpl-${root.spanContext().spanId}`,
      "gen_ai.usage.input_tokens": promptTokens,
      "gen_ai.usage.output_tokens": outputTokens,
      "gen_ai.response.time_to_first_chunk": durationMs / 4_000,
      "gen_ai.response.finish_reasons": ["stop"],
      "quetzal.tenant": tenant,
      ...(request.prompt === undefined ? {} : {
        "gen_ai.input.messages": JSON.stringify([{
          role: "user",
          content: request.prompt,
        }]),
        "gen_ai.output.messages": JSON.stringify(texts.join("")),
      }),
    },
  }, under(root));
  const route = router.tracer.startSpan("route", {
    startTime: at(2),
    attributes: {
      "quetzal.routing.policy": "prefix-affinity",
      "quetzal.routing.decode_worker": "decode-1",
      "quetzal.queue.wait_ms": 1.5,
    },
  }, under(chat));
  for (const [workerId, score] of [["decode-2", -40], ["decode-1", -20]]) {
    route.addEvent("candidate", {
      "quetzal.worker.role": "decode",
      "quetzal.worker.id": workerId,
      "quetzal.routing.score": score,
      "quetzal.routing.load": 1,
      "quetzal.routing.matched_tokens": 16,
      "quetzal.routing.blocks_free": 9,
    });
  }
  route.end(at(3));
  const call = router.tracer.startSpan("decode", {
    kind: 2,
    startTime: at(3),
    attributes: { "quetzal.worker.id": "decode-1" },
  }, under(chat));
  const columns = createTokenColumns(call, { stepsPerEvent: 3 });
  texts.forEach((text, i) =>
    columns.add({
      provenance: i === 1 ? "a" : "p",
      batchSize: 2,
      stepUs: 1_000 + i,
      ...(request.prompt === undefined ? {} : { ids: [i], texts: [text] }),
    })
  );
  columns.flush();
  const decode = worker.tracer.startSpan("decode.generate", {
    kind: 1,
    startTime: at(4),
    attributes: {
      "gen_ai.request.model": model,
      "quetzal.queue.wait_ms": 0.5,
      "quetzal.prefill_ms": 10,
      "quetzal.computed_tokens": 4,
      "gen_ai.usage.cache_read.input_tokens": 16,
    },
  }, under(call));
  decode.end(at(durationMs - 3));
  call.end(at(durationMs - 2));
  for (const span of [chat, root]) {
    if (request.error !== undefined) {
      span.setAttribute("error.type", "unavailable");
      span.setStatus({ code: SpanStatusCode.ERROR, message: request.error });
    }
    span.end(at(durationMs - (span === chat ? 1 : 0)));
  }
  return [...worker.spans(), ...router.spans()];
}

/** No span, whatever is active. */
const rootContext = trace.deleteSpan(
  (await import("@opentelemetry/api")).ROOT_CONTEXT,
);

/** A span as it lies in the store, for tests that need no wire. */
export function plainSpan(span: Partial<Span> = {}): Span {
  return {
    spanId: randomBytes(8).toString("hex"),
    parentSpanId: null,
    name: "POST /v1/chat/completions",
    service: "router",
    instance: "router-1",
    kind: "server",
    startAtMs: 1_700_000_000_000,
    durationMs: 10,
    status: "unset",
    statusMessage: null,
    attributes: {},
    events: [],
    links: [],
    ...span,
  };
}

/** Root and generation of one request, as stored. */
export function plainRequest(
  {
    traceId,
    startAtMs,
    durationMs,
    model,
    tenant,
    promptTokens,
    outputTokens,
    status,
    worker,
  }: {
    traceId: string;
    startAtMs: number;
    durationMs: number;
    model?: string;
    tenant?: string;
    promptTokens?: number;
    outputTokens?: number;
    status?: "ok" | "error" | "cancelled";
    worker?: string;
  },
): { traceId: string; spans: Span[]; spansLeftOut: number } {
  const root = plainSpan({
    startAtMs,
    durationMs,
    status: status === "error" ? "error" : "unset",
    attributes: status === "cancelled" ? { "error.type": "cancelled" } : {},
  });
  const chat = plainSpan({
    name: `chat ${model}`,
    kind: "internal",
    parentSpanId: root.spanId,
    startAtMs: startAtMs + 1,
    durationMs: durationMs - 1,
    attributes: {
      "gen_ai.operation.name": "chat",
      "gen_ai.request.model": model ?? "demo",
      "gen_ai.response.id": `chatcmpl-${traceId.slice(0, 6)}`,
      "gen_ai.usage.input_tokens": promptTokens ?? 10,
      "gen_ai.usage.output_tokens": outputTokens ?? 5,
      "gen_ai.response.time_to_first_chunk": durationMs / 2_000,
      ...(tenant === undefined ? {} : { "quetzal.tenant": tenant }),
    },
  });
  const call = plainSpan({
    name: "decode",
    kind: "client",
    parentSpanId: chat.spanId,
    startAtMs: startAtMs + 2,
    durationMs: durationMs - 2,
    attributes: { "quetzal.worker.id": worker ?? "decode-1" },
  });
  return { traceId, spans: [root, chat, call], spansLeftOut: 0 };
}

/**
 * What tracing one request costs router and decode, part by part:
 * `bun test/load/trace_parts.ts`, microseconds of processor time.
 *
 * A whole mesh varies by more than this from one second to the next. Here the tracing code
 * of both services runs alone, at a steady pace, for an answer of 64 tokens in eight
 * messages; what is not sampled is the base. Spans go by OTLP to a process that only reads.
 */
import { spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { setTimeout as delay } from "node:timers/promises";
import { context, propagation, ROOT_CONTEXT, trace } from "@opentelemetry/api";
import { freePort, waitFor } from "../../lib/testing/mod.ts";
import {
  createRegistry,
  createRequestMetrics,
  Keys,
  startSpan,
  startTelemetry,
  withSpan,
} from "../../lib/telemetry/mod.ts";
import { Provenance } from "../../proto/gen/quetzal/v1/common.ts";
import { SequenceTrace } from "../../services/decode/sequence_trace.ts";
import type { Lease } from "../../services/router/core/dispatcher.ts";
import type { GenerationRequest } from "../../services/router/core/generation.ts";
import { GenerationTrace } from "../../services/router/core/generation_trace.ts";
import { tracer } from "../../services/router/core/route_trace.ts";
import { openSpanReader } from "./span_reader.ts";

const requests = 1_500, messages = 8, tokensPerMessage = 8;

async function measure(): Promise<void> {
  const port = await freePort();
  const sink = spawn(process.execPath, [process.argv[1], "sink", `${port}`]);
  const endpoint = `http://127.0.0.1:${port}`;
  await waitFor(() => fetch(endpoint).then(() => true, () => false));
  await using _ = startTelemetry({ service: "parts", version: "0", endpoint });
  const pauses = await usOf(() => {});
  const rows: Record<string, number> = {};
  for (
    const [name, work] of Object.entries({
      "router, not sampled": () => traceRouter("00", false),
      "router, sampled": () => traceRouter("01", false),
      "router, sampled with content": () => traceRouter("01", true),
      "decode, not sampled": () => traceDecode("00"),
      "decode, sampled": () => traceDecode("01"),
    })
  ) rows[name] = Math.round(await usOf(work) - pauses);
  console.log(JSON.stringify(rows, null, 2));
  sink.kill();
  await once(sink, "exit");
}

/** Of a request; the second of two rounds, when code is compiled. */
async function usOf(work: () => void): Promise<number> {
  let us = 0;
  for (let round = 0; round < 2; round++) {
    const before = process.cpuUsage();
    for (let i = 0; i < requests; i++) {
      work();
      if (i % 4 === 3) await delay(8);
    }
    // The last spans leave.
    await delay(1_500);
    const { user, system } = process.cpuUsage(before);
    us = (user + system) / requests;
  }
  return us;
}

const metrics = createRequestMetrics(createRegistry()).forModel("m");
const prompt = new Int32Array(64);
const request = {
  requestId: "request",
  operation: "chat",
  model: { name: "m" },
  promptIds: prompt,
  sampling: { temperature: 0, topP: 1, topK: 0, seed: 5n },
  maxTokens: 64,
  tenant: "",
} as unknown as GenerationRequest;
const lease = {
  heldMs: 0.1,
  worker: { record: { role: "decode", workerId: "d", address: "host:1" } },
  decision: {
    policy: "prefix-affinity",
    prefillReason: "short",
    uncachedTokens: 64,
    decode: [{
      workerId: "d",
      score: 1,
      load: 0.4,
      matchedTokens: 0,
      blocksFree: 100,
    }],
    prefill: [],
  },
} as unknown as Lease;
const step = {
  tokens: Array.from({ length: tokensPerMessage }, (_, i) => ({
    id: 1_000 + i * 91,
    provenance: Provenance.PROVENANCE_PLAIN,
    logprob: undefined,
    top: [],
  })),
  batchSize: 16,
  stepUs: 5_123,
};
const texts = [" the", " model", "s", " of", " long", " tail", " load", "."];

function parentOf(flags: "00" | "01") {
  const hex = (bytes: number) => randomBytes(bytes).toString("hex");
  const traceparent = `00-${hex(16)}-${hex(8)}-${flags}`;
  return propagation.extract(ROOT_CONTEXT, { traceparent });
}

function traceRouter(flags: "00" | "01", captureContent: boolean): void {
  const parent = parentOf(flags);
  context.with(parent, () =>
    withSpan({ tracer, name: "tokenize" }, (span) => {
      span.setAttributes({ [Keys.usageInputTokens]: prompt.length });
    }));
  const own = new GenerationTrace(request, { metrics, parent, captureContent });
  own.startRoute(1).placed(lease);
  const call = own.startDecode(lease, 0);
  for (let i = 0; i < messages; i++) {
    own.tokens(step, own.wantsText ? texts : undefined);
  }
  call.end();
  own.end({
    reason: "length",
    stop: undefined,
    promptTokens: prompt.length,
    completionTokens: messages * tokensPerMessage,
    cachedTokens: 0,
    attempts: 1,
  });
}

const decodeTracer = trace.getTracer("quetzal.decode");

function traceDecode(flags: "00" | "01"): void {
  using open = startSpan({
    tracer: decodeTracer,
    name: "decode.generate",
    kind: "server",
    parent: parentOf(flags),
    attributes: {
      [Keys.requestModel]: "m",
      [Keys.requestMaxTokens]: 64,
      [Keys.sequenceId]: "request",
      [Keys.usageInputTokens]: prompt.length,
      "quetzal.tenant": "",
      "quetzal.prefill_address": "",
    },
  });
  using own = new SequenceTrace(open, decodeTracer);
  own.add({
    kind: "started",
    cachedTokens: 0,
    transferredTokens: 0,
    computedTokens: prompt.length,
    queueUs: 100,
    prefillUs: 2_000,
  });
  const tokens = [{ id: 1, logprob: undefined, top: [] }];
  for (let i = 0; i < messages * tokensPerMessage; i++) {
    own.add({ kind: "tokens", tokens, batchSize: 16, stepUs: 5_123 });
  }
  own.add({
    kind: "finished",
    reason: "length",
    stopTokenId: undefined,
    preemptions: 0,
  });
}

if (process.argv[2] === "sink") await openSpanReader(Number(process.argv[3]));
else await measure();

/** A trace as the page shows it: read from spans by their names and attributes. */
import { Keys } from "../../../lib/telemetry/attributes.ts";
import type {
  DecodeRun,
  KvTransfer,
  Phase,
  PrefillRun,
  RouteCandidate,
  RouteDecision,
  Span,
  TraceDetail,
} from "../api_types.ts";
import { endOf, firstTextOf, numberOf, textOf } from "./attributes_of.ts";
import { readContent, withoutContent } from "./content.ts";
import { sortOut, type TraceSpans } from "./span_roles.ts";
import { summarize } from "./summarize.ts";
import { readTokens } from "./token_strip.ts";

export interface DescribeOptions {
  readonly captureContent: boolean;
  readonly spansLeftOut: number;
}

export function describe(
  traceId: string,
  spans: readonly Span[],
  { captureContent, spansLeftOut }: DescribeOptions,
): TraceDetail {
  const parts = sortOut(spans);
  const routes = parts.routes.map(readRoute);
  return {
    summary: summarize(traceId, spans),
    spans: parts.all.map((span) => withoutContent(span, captureContent)),
    phases: readPhases(parts),
    routes,
    prefills: [
      ...parts.prefills.map(readPrefill),
      ...parts.decodes.flatMap(readLocalPrefill),
    ].sort((a, b) => a.startAtMs - b.startAtMs),
    transfers: parts.transfers.map((span) => readTransfer(span, parts)),
    decodes: parts.decodes.map((span, index) => readDecode(span, index + 1)),
    tokens: readTokens(parts, { captureContent }),
    content: captureContent ? readContent(parts) : null,
    spansLeftOut,
  };
}

function readRoute(span: Span, index: number): RouteDecision {
  const { attributes } = span;
  const decodeWorker = textOf(attributes, "quetzal.routing.decode_worker");
  const prefillWorker = textOf(attributes, "quetzal.routing.prefill_worker");
  const chosen = new Set([
    `decode ${decodeWorker}`,
    `prefill ${prefillWorker}`,
  ]);
  return {
    attempt: numberOf(attributes, Keys.routingAttempt) ?? index + 1,
    spanId: span.spanId,
    startAtMs: span.startAtMs,
    durationMs: span.durationMs,
    policy: textOf(attributes, Keys.routingPolicy),
    queueWaitMs: numberOf(attributes, Keys.queueWaitMs),
    decodeWorker,
    prefillWorker,
    prefillReason: textOf(attributes, "quetzal.routing.prefill_reason"),
    uncachedTokens: numberOf(attributes, "quetzal.routing.uncached_tokens"),
    candidates: span.events.filter(({ name }) => name === "candidate")
      .map(({ attributes }) => readCandidate(attributes, chosen))
      .sort((a, b) =>
        a.role.localeCompare(b.role) || b.score - a.score ||
        a.workerId.localeCompare(b.workerId)
      ),
    error: span.status === "error" ? span.statusMessage ?? "failed" : null,
  };
}

function readCandidate(
  attributes: Span["attributes"],
  chosen: ReadonlySet<string>,
): RouteCandidate {
  const role = textOf(attributes, Keys.workerRole) === "prefill"
    ? "prefill"
    : "decode";
  const workerId = textOf(attributes, Keys.workerId) ?? "unknown";
  const number = (name: string) =>
    numberOf(attributes, `quetzal.routing.${name}`) ?? 0;
  return {
    role,
    workerId,
    score: number("score"),
    load: number("load"),
    matchedTokens: number("matched_tokens"),
    blocksFree: number("blocks_free"),
    chosen: chosen.has(`${role} ${workerId}`),
  };
}

function readPrefill(span: Span): PrefillRun {
  const { attributes, startAtMs } = span;
  const queueMs = numberOf(attributes, Keys.queueWaitMs);
  let previousMs = startAtMs + (queueMs ?? 0);
  return {
    spanId: span.spanId,
    workerId: span.instance,
    where: "prefill",
    startAtMs,
    durationMs: span.durationMs,
    queueMs,
    computeMs: numberOf(attributes, "quetzal.compute_ms"),
    sendMs: numberOf(attributes, "quetzal.send_ms"),
    cachedTokens: numberOf(attributes, Keys.usageCachedInputTokens),
    computedTokens: numberOf(attributes, "quetzal.computed_tokens"),
    chunks: span.events.filter(({ name }) => name === "chunk").map((event) => {
      const durationMs = Math.max(0, event.atMs - previousMs);
      previousMs = event.atMs;
      return {
        endAtMs: event.atMs,
        durationMs,
        blocks: numberOf(event.attributes, Keys.blockCount) ?? 0,
        tokens: numberOf(event.attributes, "quetzal.chunk.tokens"),
      };
    }),
  };
}

/** A prompt, or what was left of it, that the decode worker computed itself. */
function readLocalPrefill(span: Span): PrefillRun[] {
  const { attributes } = span;
  const computedTokens = numberOf(attributes, "quetzal.computed_tokens");
  const computeMs = numberOf(attributes, "quetzal.prefill_ms");
  // One token is always computed here: the one that the first step starts from.
  if (computedTokens === null || computedTokens <= 1 || computeMs === null) {
    return [];
  }
  const queueMs = numberOf(attributes, Keys.queueWaitMs);
  return [{
    spanId: span.spanId,
    workerId: span.instance,
    where: "decode",
    startAtMs: span.startAtMs + (queueMs ?? 0),
    durationMs: computeMs,
    queueMs,
    computeMs,
    sendMs: null,
    cachedTokens: numberOf(attributes, Keys.usageCachedInputTokens),
    computedTokens,
    chunks: [],
  }];
}

function readTransfer(span: Span, { prefills }: TraceSpans): KvTransfer {
  const { attributes } = span;
  const bytes = numberOf(attributes, Keys.kvBytes) ?? 0;
  const far = prefills.find(({ parentSpanId }) => parentSpanId === span.spanId);
  return {
    spanId: span.spanId,
    from: textOf(attributes, Keys.serverAddress),
    workerId: far?.instance ?? null,
    startAtMs: span.startAtMs,
    durationMs: span.durationMs,
    bytes,
    blocks: numberOf(attributes, Keys.blockCount) ?? 0,
    bytesPerS: numberOf(attributes, "quetzal.kv.bytes_per_s") ??
      (span.durationMs > 0 ? bytes / span.durationMs * 1_000 : null),
    failure: textOf(attributes, "quetzal.kv.reason") ??
      (span.status === "error" ? span.statusMessage ?? "failed" : null),
  };
}

function readDecode(span: Span, attempt: number): DecodeRun {
  const { attributes } = span;
  const number = (key: string) => numberOf(attributes, key);
  const steps = span.events.filter(({ name }) => name === "step").map((
    { atMs, attributes },
  ) => {
    const us = numberOf(attributes, "quetzal.step.us");
    return {
      index: numberOf(attributes, Keys.stepIndex) ?? 0,
      atMs,
      batchSize: numberOf(attributes, Keys.batchSize),
      stepMs: us === null ? null : us / 1_000,
    };
  });
  return {
    spanId: span.spanId,
    attempt,
    workerId: span.instance,
    startAtMs: span.startAtMs,
    durationMs: span.durationMs,
    queueMs: number(Keys.queueWaitMs),
    prefillMs: number("quetzal.prefill_ms"),
    cachedTokens: number(Keys.usageCachedInputTokens),
    transferredTokens: number("quetzal.transferred_tokens"),
    computedTokens: number("quetzal.computed_tokens"),
    replayedTokens: number("quetzal.emitted_tokens"),
    outputTokens: number(Keys.usageOutputTokens),
    preemptions: number("quetzal.preemptions"),
    finishReason: firstTextOf(attributes, Keys.responseFinishReasons),
    error: span.status === "error" ? span.statusMessage ?? "failed" : null,
    steps,
    stepCount: number(Keys.stepCount) ?? steps.length,
  };
}

function readPhases(parts: TraceSpans): Phase[] {
  const phases: Phase[] = [];
  const add = (name: Phase["name"], span: Span, attempt = 1) =>
    phases.push({
      name,
      startAtMs: span.startAtMs,
      durationMs: span.durationMs,
      spanId: span.spanId,
      attempt,
    });
  parts.tokenizes.forEach((span) => add("tokenize", span));
  parts.routes.forEach((span, i) => add("route", span, i + 1));
  parts.transfers.forEach((span) => add("kv_transfer", span));
  parts.decodes.forEach((span, i) => {
    const queueMs = numberOf(span.attributes, Keys.queueWaitMs) ?? 0;
    const prefillMs = numberOf(span.attributes, "quetzal.prefill_ms");
    const part = (name: Phase["name"], fromMs: number, toMs: number) =>
      phases.push({
        name,
        startAtMs: fromMs,
        durationMs: Math.max(0, toMs - fromMs),
        spanId: span.spanId,
        attempt: i + 1,
      });
    const admittedMs = span.startAtMs + queueMs;
    part("queue", span.startAtMs, admittedMs);
    if (prefillMs === null) return;
    const completeMs = admittedMs + prefillMs;
    part("prefill", admittedMs, completeMs);
    part("decode", completeMs, endOf(span));
  });
  return phases.sort((a, b) => a.startAtMs - b.startAtMs);
}

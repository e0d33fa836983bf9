import { Keys } from "../../../lib/telemetry/attributes.ts";
import type { Span, TraceStatus, TraceSummary } from "../api_types.ts";
import { firstTextOf, numberOf, sum, textOf } from "./attributes_of.ts";
import { sortOut, type TraceSpans } from "./span_roles.ts";

/** The line of the list, from whatever spans have arrived so far. */
export function summarize(
  traceId: string,
  spans: readonly Span[],
): TraceSummary {
  const parts = sortOut(spans);
  const { root, generations, all, startAtMs, endAtMs } = parts;
  const outcome = outcomeOf(parts);
  const outputTokens = sum(numbers(generations, Keys.usageOutputTokens));
  const ttftMs = smallest(
    numbers(generations, Keys.responseTimeToFirstChunk),
    1_000,
  );
  const lead = generations[0] ?? parts.decodes[0];
  return {
    traceId,
    requestId: lead
      ? textOf(lead.attributes, Keys.responseId) ??
        textOf(lead.attributes, Keys.sequenceId)
      : null,
    name: (root ?? generations[0] ?? all[0])?.name ?? "",
    ...outcome,
    model: lead ? textOf(lead.attributes, Keys.requestModel) : null,
    tenant: firstOf([...generations, ...parts.decodes], Keys.tenant),
    operation: generations[0]
      ? textOf(generations[0].attributes, Keys.operationName)
      : null,
    startAtMs,
    durationMs: root?.durationMs ?? endAtMs - startAtMs,
    queueMs: sum([
      ...numbers(parts.routes, Keys.queueWaitMs),
      ...numbers(parts.decodes, Keys.queueWaitMs),
    ]),
    ttftMs,
    interTokenMs: interToken(generations, ttftMs, outputTokens),
    promptTokens: sum(numbers(generations, Keys.usageInputTokens)),
    cachedTokens: sum(numbers(generations, Keys.usageCachedInputTokens)),
    outputTokens,
    finishReason: generations.length === 0
      ? null
      : firstTextOf(generations[0].attributes, Keys.responseFinishReasons),
    attempts: Math.max(1, parts.calls.length - (generations.length - 1)),
    decodeWorker: firstOf(parts.calls.toReversed(), Keys.workerId),
    prefillWorker: firstOf(
      parts.routes.toReversed(),
      "quetzal.routing.prefill_worker",
    ),
    spanCount: all.length,
    services: [...new Set(all.map(({ service }) => service))].sort(),
    open: root === undefined,
  };
}

/** Ids of all workers that took part, for the search. */
export function workersOf(spans: readonly Span[]): string[] {
  const workers = new Set<string>();
  for (const { service, instance, attributes } of spans) {
    const named = textOf(attributes, Keys.workerId);
    if (named !== null) workers.add(named);
    if (instance !== null && service !== "router") workers.add(instance);
  }
  return [...workers].slice(0, 64);
}

type Outcome = Pick<TraceSummary, "status" | "error" | "errorType">;

/** What the client saw: a worker that died and was replaced is no error of the request. */
function outcomeOf({ root, generations, all }: TraceSpans): Outcome {
  const judged = root === undefined
    ? (generations.length > 0 ? generations : all)
    : [root, ...generations];
  const failed = judged.find(({ status }) => status === "error");
  const cancelled = judged.find(({ attributes }) =>
    textOf(attributes, Keys.errorType) === "cancelled"
  );
  const httpStatus = root
    ? numberOf(root.attributes, "http.response.status_code")
    : null;
  const status: TraceStatus = failed !== undefined || (httpStatus ?? 0) >= 400
    ? "error"
    : cancelled !== undefined
    ? "cancelled"
    : "ok";
  if (status === "ok") return { status, error: null, errorType: null };
  const about = failed ?? cancelled;
  return {
    status,
    error: about?.statusMessage ??
      (status === "error" ? `HTTP ${httpStatus}` : null),
    errorType: about
      ? textOf(about.attributes, Keys.errorType)
      : `http_${httpStatus}`,
  };
}

function interToken(
  generations: readonly Span[],
  ttftMs: number | null,
  outputTokens: number | null,
): number | null {
  if (generations.length !== 1 || ttftMs === null || outputTokens === null) {
    return null;
  }
  const ms = generations[0].durationMs - ttftMs;
  return outputTokens > 1 && ms > 0 ? ms / (outputTokens - 1) : null;
}

function numbers(spans: readonly Span[], key: string): (number | null)[] {
  return spans.map(({ attributes }) => numberOf(attributes, key));
}

function smallest(
  values: readonly (number | null)[],
  scale: number,
): number | null {
  const known = values.filter((value) => value !== null);
  return known.length === 0 ? null : Math.min(...known) * scale;
}

function firstOf(spans: readonly Span[], key: string): string | null {
  for (const { attributes } of spans) {
    const value = textOf(attributes, key);
    if (value !== null) return value;
  }
  return null;
}

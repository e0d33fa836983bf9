/** What the waterfall draws: spans as a tree, and under them what happened inside. Times are
 * milliseconds since the start of the trace. */
import type { Span, TraceDetail } from "../../../api_types.ts";
import { formatBytes, formatCount, formatMs, formatRate } from "../format.ts";
import { type Tone, tonesOf } from "./tones.ts";

export interface WaterfallRow {
  readonly key: string;
  readonly depth: number;
  readonly label: string;
  /** Service and replica. */
  readonly place: string;
  readonly tone: Tone;
  readonly startMs: number;
  readonly durationMs: number;
  /** Beside the bar. */
  readonly note: string;
  readonly span: Span;
  readonly failed: boolean;
  /** Parts of the bar, in order: chunks of a prompt, steps of a decode run. */
  readonly parts?: readonly RowPart[];
  /** Points on the bar. */
  readonly marks: readonly { readonly atMs: number; readonly label: string }[];
  /** Its parent is not among the spans. */
  readonly orphan: boolean;
}

export interface RowPart {
  readonly startMs: number;
  readonly durationMs: number;
  /** Made when somebody looks: there may be thousands. */
  readonly label: () => string;
}

/** Marks of one row; a span with more events shows them in its details. */
const marksMax = 64;

/** All rows, parents before children, siblings by start. */
export function waterfallRows(detail: TraceDetail): WaterfallRow[] {
  const toneOf = tonesOf(detail);
  const zeroMs = detail.summary.startAtMs;
  const ids = new Set(detail.spans.map((span) => span.spanId));
  const children = new Map<string | null, Span[]>();
  for (const span of detail.spans) {
    const parent = span.parentSpanId !== null && ids.has(span.parentSpanId)
      ? span.parentSpanId
      : null;
    const siblings = children.get(parent);
    if (siblings) siblings.push(span);
    else children.set(parent, [span]);
  }
  const rows: WaterfallRow[] = [];
  const seen = new Set<string>();
  // By hand, not by recursion: a hostile trace may be one chain of thousands.
  const open = (children.get(null) ?? []).map((span) => ({ span, depth: 0 }))
    .reverse();
  const visit = () => {
    for (let top = open.pop(); top; top = open.pop()) {
      const { span, depth } = top;
      if (seen.has(span.spanId)) continue;
      seen.add(span.spanId);
      rows.push(spanRow(span, depth, { zeroMs, detail, ids, toneOf }));
      rows.push(...innerRows(span, depth + 1, zeroMs, detail));
      const below = children.get(span.spanId) ?? [];
      for (let i = below.length - 1; i >= 0; i--) {
        open.push({ span: below[i], depth: depth + 1 });
      }
    }
  };
  visit();
  // Spans that name each other as parents hang on no root: shown as roots all the same.
  for (const span of detail.spans) {
    if (seen.has(span.spanId)) continue;
    open.push({ span, depth: 0 });
    visit();
  }
  return rows;
}

interface TraceFacts {
  readonly zeroMs: number;
  readonly detail: TraceDetail;
  readonly ids: ReadonlySet<string>;
  readonly toneOf: (span: Span) => Tone;
}

function spanRow(
  span: Span,
  depth: number,
  { zeroMs, detail, ids, toneOf }: TraceFacts,
): WaterfallRow {
  const transfer = detail.transfers.find((one) => one.spanId === span.spanId);
  const traffic = transfer
    ? ` · ${formatBytes(transfer.bytes)} at ${
      transfer.bytesPerS === null ? "–" : `${formatBytes(transfer.bytesPerS)}/s`
    }`
    : "";
  const hasInside = detail.decodes.some((run) => run.spanId === span.spanId) ||
    detail.prefills.some((run) => run.spanId === span.spanId);
  return {
    key: span.spanId,
    depth,
    label: span.name,
    place: span.instance ? `${span.service} · ${span.instance}` : span.service,
    tone: toneOf(span),
    startMs: span.startAtMs - zeroMs,
    durationMs: span.durationMs,
    note: formatMs(span.durationMs) + traffic,
    span,
    failed: span.status === "error",
    marks: hasInside ? [] : span.events.slice(0, marksMax).map((event) => ({
      atMs: event.atMs - zeroMs,
      label: event.name,
    })),
    orphan: span.parentSpanId !== null && !ids.has(span.parentSpanId),
  };
}

/** Chunks of a prompt and steps of a decode run, which are no spans. */
function innerRows(
  span: Span,
  depth: number,
  zeroMs: number,
  detail: TraceDetail,
): WaterfallRow[] {
  const base = {
    depth,
    place: "",
    span,
    failed: false,
    marks: [],
    orphan: false,
  };
  const rows: WaterfallRow[] = [];
  for (const run of detail.prefills) {
    if (run.spanId !== span.spanId || run.chunks.length === 0) continue;
    const parts = run.chunks.map((chunk, i) => ({
      startMs: chunk.endAtMs - chunk.durationMs - zeroMs,
      durationMs: chunk.durationMs,
      label: () =>
        `chunk ${i + 1}: ${
          formatMs(chunk.durationMs)
        }, ${chunk.blocks} blocks` +
        (chunk.tokens === null ? "" : `, ${chunk.tokens} tokens`),
    }));
    rows.push({
      ...base,
      ...around(parts),
      key: `${span.spanId} chunks`,
      label: plural(parts.length, "prefill chunk"),
      tone: "prefill",
      note: run.computedTokens && run.computeMs
        ? formatRate(run.computedTokens / run.computeMs * 1_000, "tok")
        : "",
      parts,
    });
  }
  const run = detail.decodes.find((one) => one.spanId === span.spanId);
  if (run && run.stepCount > 0) {
    const parts = run.steps.length < run.stepCount
      ? stepParts(detail, run.attempt)
      : [];
    const steps = parts.length > 0 ? parts : run.steps.map((step) => ({
      startMs: step.atMs - (step.stepMs ?? 0) - zeroMs,
      durationMs: step.stepMs ?? 0,
      label: () =>
        `step ${step.index}: ${formatMs(step.stepMs)}` +
        (step.batchSize === null ? "" : `, batch of ${step.batchSize}`),
    }));
    rows.push({
      ...base,
      ...around(steps),
      key: `${span.spanId} steps`,
      label: plural(run.stepCount, "decode step"),
      tone: "decode",
      note: "",
      parts: steps,
    });
  }
  return rows;
}

/**
 * From the tokens, which hold every step where a span keeps only some hundred; their times are
 * those of the router, a little later than the worker's own.
 */
function stepParts(
  { tokens }: TraceDetail,
  attempt: number,
): RowPart[] {
  if (!tokens) return [];
  const parts: RowPart[] = [];
  for (let i = 0; i < tokens.count; i++) {
    if (tokens.attempt[i] !== attempt) continue;
    if (i > 0 && tokens.step[i] === tokens.step[i - 1]) continue;
    const tookMs = Math.min(tokens.stepMs[i], tokens.latencyMs[i]);
    parts.push({
      startMs: tokens.offsetMs[i] - tookMs,
      durationMs: tookMs,
      label: () =>
        `step ${tokens.step[i]}: ${formatMs(tokens.stepMs[i])}, batch of ${
          tokens.batchSize[i]
        }`,
    });
  }
  return parts;
}

function around(parts: readonly RowPart[]) {
  const startMs = Math.min(...parts.map((part) => part.startMs));
  const endMs = Math.max(
    ...parts.map((part) => part.startMs + part.durationMs),
  );
  return { startMs, durationMs: endMs - startMs };
}

function plural(count: number, what: string): string {
  return `${formatCount(count)} ${what}${count === 1 ? "" : "s"}`;
}

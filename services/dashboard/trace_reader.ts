import type {
  Facets,
  SpeculationQuery,
  SpeculationStats,
  StoreState,
  TraceDetail,
  TraceList,
  TraceStats,
  TraceSummary,
} from "./api_types.ts";
import type { Collector } from "./collector.ts";
import {
  type CheckedQuery,
  type RetentionLimits,
  type StoredTrace,
  type TraceStore,
} from "./store/mod.ts";
import { describe } from "./trace/describe.ts";
import { sortOut } from "./trace/span_roles.ts";
import { SpeculationTally } from "./trace/speculation.ts";
import { summarize, workersOf } from "./trace/summarize.ts";
import { readTokens } from "./trace/token_strip.ts";

export interface TraceReaderOptions {
  readonly store: TraceStore;
  readonly collector: Collector;
  readonly captureContent: boolean;
  readonly retention: RetentionLimits;
  readonly nowMs: () => number;
}

const facetsMs = 5_000;
const speculationMs = 15 * 60_000;
const speculationTraces = 2_000;

/** Answers questions about traces, stored and still coming in. */
export class TraceReader {
  readonly #options: TraceReaderOptions;
  #facets: { atMs: number; facets: Facets } | undefined;

  constructor(options: TraceReaderOptions) {
    this.#options = options;
  }

  /** The first page of the newest begins with what is still coming in. */
  list(query: CheckedQuery): TraceList {
    const list = this.#options.store.list(query);
    const { cursor, order = "newest", limit = 50 } = query;
    if (cursor !== undefined || order !== "newest") return list;
    const stored = new Set(list.traces.map(({ traceId }) => traceId));
    const pending: TraceSummary[] = [];
    for (const trace of this.#options.collector.pending()) {
      if (pending.length >= limit) break;
      const { traceId, spans } = trace;
      if (stored.has(traceId)) continue;
      const summary = summarize(traceId, spans);
      if (matches(summary, trace, query)) pending.push(summary);
    }
    return { ...list, traces: [...pending, ...list.traces] };
  }

  stats(query: CheckedQuery): TraceStats {
    return this.#options.store.stats(query, this.#options.nowMs());
  }

  facets(): Facets {
    const nowMs = this.#options.nowMs();
    if (this.#facets === undefined || nowMs - this.#facets.atMs > facetsMs) {
      this.#facets = { atMs: nowMs, facets: this.#options.store.facets() };
    }
    return this.#facets.facets;
  }

  trace(traceId: string): StoredTrace | undefined {
    return this.#options.collector.get(traceId);
  }

  detail(traceId: string): TraceDetail | undefined {
    const trace = this.trace(traceId);
    if (trace === undefined) return undefined;
    return describe(traceId, trace.spans, {
      captureContent: this.#options.captureContent,
      spansLeftOut: trace.spansLeftOut,
    });
  }

  speculation({ model, fromMs, toMs }: SpeculationQuery): SpeculationStats {
    const { store, nowMs } = this.#options;
    const query: CheckedQuery = {
      ...(model === undefined ? {} : { model: [model] }),
      fromMs: fromMs ?? (toMs ?? nowMs()) - speculationMs,
      ...(toMs === undefined ? {} : { toMs }),
    };
    const tally = new SpeculationTally();
    for (const { traceId, spans } of store.recent(query, speculationTraces)) {
      const name = summarize(traceId, spans).model;
      const strip = readTokens(sortOut(spans), { captureContent: false });
      if (name !== null && strip !== null) tally.add(name, strip);
    }
    return { models: tally.result() };
  }

  storeState(): StoreState {
    const { store, collector, retention } = this.#options;
    return {
      ...store.counts(),
      bytesMax: retention.bytesMax,
      retentionMs: retention.ageMs,
      received: collector.counts,
    };
  }
}

/** The store's search, for the few traces that are not in it yet. */
function matches(
  summary: TraceSummary,
  { spans }: StoredTrace,
  query: CheckedQuery,
): boolean {
  const within = (value: number | null, min?: number, max?: number) =>
    (min === undefined || (value !== null && value >= min)) &&
    (max === undefined || (value !== null && value <= max));
  const { model, tenant, traceId, requestId, status, worker } = query;
  return (model === undefined ||
    (summary.model !== null && model.includes(summary.model))) &&
    (tenant === undefined || summary.tenant === tenant) &&
    (traceId === undefined || summary.traceId.startsWith(traceId)) &&
    (requestId === undefined || summary.requestId === requestId) &&
    (status === undefined || summary.status === status) &&
    (worker === undefined || workersOf(spans).includes(worker)) &&
    within(summary.durationMs, query.durationMsMin, query.durationMsMax) &&
    within(summary.ttftMs, query.ttftMsMin, query.ttftMsMax) &&
    within(
      summary.promptTokens,
      query.promptTokensMin,
      query.promptTokensMax,
    ) &&
    within(
      summary.outputTokens,
      query.outputTokensMin,
      query.outputTokensMax,
    ) &&
    within(summary.startAtMs, query.fromMs, query.toMs);
}

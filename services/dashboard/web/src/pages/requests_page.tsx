/** @jsxImportSource preact */
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import type {
  Facets,
  Percentiles,
  TraceList,
  TraceStats,
  TraceSummary,
} from "../../../api_types.ts";
import { getJson } from "../data/api.ts";
import { onTraces, serverNow } from "../data/live.ts";
import { useResource } from "../data/use_resource.ts";
import { formatCount, formatMs, formatShare } from "../format.ts";
import { navigate, query, setQuery } from "../navigation/address.ts";
import { useShortcuts } from "../navigation/keys.ts";
import { Icon } from "../parts/icons.tsx";
import { Failure, Notice } from "../parts/notice.tsx";
import { Stat, Stats } from "../parts/small.tsx";
import { FilterBar } from "../requests/filter_bar.tsx";
import {
  activeFilters,
  apiQuery,
  rangeOf,
  ranges,
  statsQuery,
} from "../requests/filters.ts";
import { LatencyChart } from "../requests/latency_chart.tsx";
import { RequestTable } from "../requests/request_table.tsx";

/** At most one fetch of the list in this time, however much arrives. */
const refreshMsMin = 1_000;

/** The live list of requests, its percentiles and its filters. */
export function RequestsPage() {
  const search = query.value.toString();
  const [live, setLive] = useState(true);
  const [tick, setTick] = useState(0);
  // `fromMs` moves only when something asks again: the address of a fetch is its identity.
  const { list: listUrl, stats: statsUrl } = useMemo(() => {
    const now = serverNow();
    return {
      list: `/api/traces?${apiQuery(query.value, now)}`,
      stats: `/api/traces/stats?${statsQuery(query.value, now)}`,
    };
  }, [search, tick]);
  useRefresh(live, () => setTick((count) => count + 1));
  const list = useResource<TraceList>(listUrl);
  const stats = useResource<TraceStats>(statsUrl);
  const facets = useResource<Facets>("/api/facets");
  useEffect(facets.reload, [Math.floor(tick / 5)]);
  const older = useOlder(listUrl, list.value);
  const traces = list.value ? [...list.value.traces, ...older.traces] : [];
  const cursor = useCursor(traces, () => setLive((on) => !on));

  return (
    <div class="page">
      <header class="page-head">
        <h1>Requests</h1>
        <button
          type="button"
          class="button"
          aria-pressed={live}
          onClick={() => setLive(!live)}
          title="Follow new requests (l)"
        >
          <Icon name={live ? "pause" : "play"} size={14} />
          {live ? "Live" : "Paused"}
        </button>
      </header>
      <FilterBar facets={facets.value} />
      {stats.value && stats.value.count > 0 && <Overview stats={stats.value} />}
      {list.failure
        ? <Failure failure={list.failure} retry={list.reload} />
        : list.value === undefined
        ? <p class="muted loading" role="status">Loading requests…</p>
        : traces.length === 0
        ? <NoRequests />
        : <RequestTable traces={traces} cursor={cursor} />}
      {older.more && (
        <button type="button" class="button more" onClick={older.load}>
          Show older
        </button>
      )}
    </div>
  );
}

function Overview({ stats }: { stats: TraceStats }) {
  return (
    <section class="card overview" aria-label="Percentiles">
      <Stats>
        <Stat label="Requests">{formatCount(stats.count)}</Stat>
        <Stat label="Errors" tone={stats.errors > 0 ? "bad" : undefined}>
          {formatCount(stats.errors)}{" "}
          <small>{formatShare(stats.errors / Math.max(1, stats.count))}</small>
        </Stat>
        <PercentileStat label="Duration" of={stats.durationMs} />
        <PercentileStat label="First token" of={stats.ttftMs} />
        <PercentileStat label="Per token" of={stats.interTokenMs} />
        <PercentileStat label="Queue" of={stats.queueMs} />
        <Stat label="Tokens in / out">
          {formatCount(stats.promptTokens)}{" "}
          <small>/ {formatCount(stats.outputTokens)}</small>
        </Stat>
      </Stats>
      <LatencyChart slices={stats.slices} />
    </section>
  );
}

function PercentileStat({ label, of }: { label: string; of: Percentiles }) {
  return (
    <Stat
      label={label}
      hint={`p50 ${formatMs(of.p50)}, p90 ${formatMs(of.p90)}, p95 ${
        formatMs(of.p95)
      }, p99 ${formatMs(of.p99)}, max ${formatMs(of.max)}`}
    >
      {formatMs(of.p50)}
      <span class="percentiles">
        <small>p95 {formatMs(of.p95)}</small>
        <small>p99 {formatMs(of.p99)}</small>
      </span>
    </Stat>
  );
}

function NoRequests() {
  const filters = activeFilters(query.value);
  const range = rangeOf(query.value);
  if (filters.length > 0) {
    return (
      <Notice title="No request matches">
        <p>
          {filters.length} filter{filters.length > 1 ? "s are" : " is"}{" "}
          active over the last{" "}
          {ranges[range].label}. Clear a filter, or look further back.
        </p>
        <AllTime />
      </Notice>
    );
  }
  if (range !== "all") {
    return (
      <Notice title={`No requests in the last ${ranges[range].label}`}>
        <p>Older ones may be there.</p>
        <AllTime />
      </Notice>
    );
  }
  return (
    <Notice title="No requests yet">
      <p>
        Send one from the <a href="/playground">playground</a>, or in a shell:
      </p>
      <pre>npx -y deno@2.9.3 task ask "What is the KV cache?"</pre>
      <p class="muted">
        Services of another host report here when OTEL_EXPORTER_OTLP_ENDPOINT
        names this dashboard.
      </p>
    </Notice>
  );
}

function AllTime() {
  return (
    <button
      type="button"
      class="button"
      onClick={() => setQuery({ range: "all" })}
    >
      Show all time
    </button>
  );
}

/** Asks again soon after traces came, never more often than once a second. */
function useRefresh(live: boolean, refresh: () => void): void {
  useEffect(() => {
    if (!live) return;
    let timer: ReturnType<typeof setTimeout> | undefined;
    let lastMs = performance.now();
    const stop = onTraces(() => {
      if (timer !== undefined) return;
      const waitMs = Math.max(50, lastMs + refreshMsMin - performance.now());
      timer = setTimeout(() => {
        timer = undefined;
        lastMs = performance.now();
        refresh();
      }, waitMs);
    });
    return () => {
      stop();
      clearTimeout(timer);
    };
  }, [live]);
}

/** Pages after the first; forgotten when the question changes. */
function useOlder(url: string, first: TraceList | undefined) {
  // A cursor belongs to the question it came with, `fromMs` included.
  const [state, setState] = useState<
    { traces: TraceSummary[]; cursor?: string; url?: string }
  >({ traces: [] });
  const search = query.value.toString();
  useEffect(() => setState({ traces: [] }), [search]);
  const cursor = state.traces.length > 0 ? state.cursor : first?.nextCursor;
  const known = new Set(first?.traces.map((trace) => trace.traceId));
  return {
    traces: state.traces.filter((trace) => !known.has(trace.traceId)),
    more: cursor !== undefined,
    load: async () => {
      const from = state.url ?? url;
      const next = await getJson<TraceList>(
        `${from}&cursor=${encodeURIComponent(cursor!)}`,
      );
      setState((last) => ({
        traces: [...last.traces, ...next.traces],
        cursor: next.nextCursor,
        url: from,
      }));
    },
  };
}

/** j and k move through the list, Enter opens. */
function useCursor(
  traces: readonly TraceSummary[],
  toggleLive: () => void,
): number {
  const [traceId, setTraceId] = useState<string>();
  const state = useRef({ traces, traceId, toggleLive });
  state.current = { traces, traceId, toggleLive };
  const shortcuts = useMemo(() => {
    const move = (by: number) => {
      const { traces, traceId } = state.current;
      const at = traces.findIndex((trace) => trace.traceId === traceId);
      const next = traces[at === -1 ? 0 : Math.max(0, at + by)] ?? traces[at];
      if (!next) return;
      setTraceId(next.traceId);
      document.querySelector<HTMLElement>(
        `[data-trace="${CSS.escape(next.traceId)}"]`,
      )
        ?.focus();
    };
    return [
      { keys: "j", does: "Next request", run: () => move(1) },
      { keys: "k", does: "Request before", run: () => move(-1) },
      {
        keys: "o",
        does: "Open the request",
        run: () => {
          const { traceId } = state.current;
          if (traceId) navigate(`/traces/${encodeURIComponent(traceId)}`);
        },
      },
      {
        keys: "/",
        does: "To the filters",
        run: () =>
          document.querySelector<HTMLElement>("[data-first-filter]")?.focus(),
      },
      {
        keys: "l",
        does: "Live or paused",
        run: () => state.current.toggleLive(),
      },
    ];
  }, []);
  useShortcuts("Requests", shortcuts);
  return traces.findIndex((trace) => trace.traceId === traceId);
}

/** @jsxImportSource preact */
import { useMemo } from "preact/hooks";
import type { TraceDetail } from "../../../api_types.ts";
import { useTrace } from "../data/use_trace.ts";
import { formatCount, formatDate, formatMs, formatRate } from "../format.ts";
import { navigate, setQuery } from "../navigation/address.ts";
import { useShortcuts } from "../navigation/keys.ts";
import { Foreign } from "../parts/foreign.tsx";
import { Icon } from "../parts/icons.tsx";
import { Failure, Notice } from "../parts/notice.tsx";
import { CopyId, Stat, Stats, StatusBadge } from "../parts/small.tsx";
import { TraceView } from "../trace/trace_view.tsx";
import { zoomTo } from "../trace/time_window.ts";

/** One request, from its arrival down to single tokens. */
export function TracePage({ traceId }: { traceId: string }) {
  const { detail, failure, following } = useTrace(traceId);
  const shortcuts = useMemo(() => [
    { keys: "0", does: "Show the whole time", run: () => zoomTo(undefined) },
    {
      keys: "w",
      does: "To the waterfall",
      run: () => document.querySelector<HTMLElement>(".span-row")?.focus(),
    },
    {
      keys: "s",
      does: "To the tokens",
      run: () => document.querySelector<HTMLElement>(".strip")?.focus(),
    },
    {
      keys: "Escape",
      does: "Close what is open",
      run: () => setQuery({ span: undefined, token: undefined }),
    },
    {
      keys: "u",
      does: "Back to the requests",
      run: () => navigate("/requests"),
    },
  ], []);
  useShortcuts("Trace", shortcuts);
  return (
    <div class="page">
      <p class="crumb">
        <a href="/requests">
          <Icon name="back" size={14} /> Requests
        </a>
      </p>
      {detail
        ? (
          <>
            <Head detail={detail} following={following} />
            <TraceView detail={detail} />
          </>
        )
        : following
        ? (
          <Notice title="Waiting for this trace">
            <p>
              No span of <code>{traceId.slice(0, 32)}</code>{" "}
              has arrived yet. It appears here as soon as one does.
            </p>
            <p class="muted">
              Services report when a request has ended. An older trace may have
              been removed by retention or left out by sampling.
            </p>
          </Notice>
        )
        : failure
        ? <Failure failure={failure} />
        : <p class="muted loading" role="status">Loading the trace…</p>}
    </div>
  );
}

function Head(
  { detail, following }: { detail: TraceDetail; following: boolean },
) {
  const { summary } = detail;
  const decodeMs = summary.durationMs - (summary.ttftMs ?? 0);
  const rate = summary.outputTokens && decodeMs > 0
    ? summary.outputTokens / decodeMs * 1_000
    : null;
  return (
    <header class="trace-head">
      <h1>
        <Foreign text={summary.name} max={80} /> <StatusBadge trace={summary} />
        {following && summary.open && (
          <span class="muted small">
            following
          </span>
        )}
      </h1>
      <p class="trace-meta">
        <CopyId id={summary.traceId} what="trace id" />
        <span>{formatDate(summary.startAtMs)}</span>
        <span>
          model{" "}
          <strong>
            <Foreign text={summary.model} max={60} />
          </strong>
        </span>
        {summary.tenant && (
          <span>
            tenant{" "}
            <strong>
              <Foreign text={summary.tenant} max={60} />
            </strong>
          </span>
        )}
        <a
          href={`/api/traces/${encodeURIComponent(summary.traceId)}/otlp`}
          download={`${summary.traceId.slice(0, 32)}.json`}
        >
          OTLP for Jaeger
        </a>
      </p>
      {summary.error && (
        <p class="problem" role="alert">
          <Foreign text={summary.error} max={1_000} />
        </p>
      )}
      <div class="card">
        <Stats>
          <Stat label="Duration">
            <span data-stat="duration">{formatMs(summary.durationMs)}</span>
          </Stat>
          <Stat label="Queue">{formatMs(summary.queueMs)}</Stat>
          <Stat label="First token">
            <span data-stat="ttft">{formatMs(summary.ttftMs)}</span>
          </Stat>
          <Stat label="Per token">{formatMs(summary.interTokenMs)}</Stat>
          <Stat label="Rate after the first">{formatRate(rate, "tok")}</Stat>
          <Stat label="Prompt">
            <span data-stat="prompt">{formatCount(summary.promptTokens)}</span>
            {(summary.cachedTokens ?? 0) > 0 && (
              <small>{formatCount(summary.cachedTokens)} cached</small>
            )}
          </Stat>
          <Stat label="Output">
            <span data-stat="output">{formatCount(summary.outputTokens)}</span>
            {" "}
            <small>
              <Foreign text={summary.finishReason} max={24} />
            </small>
          </Stat>
          <Stat
            label="Attempts"
            tone={summary.attempts > 1 ? "warn" : undefined}
            hint="More than one: a worker failed and the sequence was replayed"
          >
            {summary.attempts}
          </Stat>
        </Stats>
      </div>
    </header>
  );
}

/** @jsxImportSource preact */
import type { TraceSummary } from "../../../api_types.ts";
import { nowMs } from "../data/live.ts";
import {
  formatAge,
  formatCount,
  formatDate,
  formatMs,
  unknown,
} from "../format.ts";
import { Foreign } from "../parts/foreign.tsx";
import { StatusBadge } from "../parts/small.tsx";

interface RequestTableProps {
  readonly traces: readonly TraceSummary[];
  /** Index of the row that the keyboard is at. */
  readonly cursor: number;
}

/** One line per request; on a phone one card each. */
export function RequestTable({ traces, cursor }: RequestTableProps) {
  const longest = Math.max(1, ...traces.map((trace) => trace.durationMs));
  return (
    <table class="requests">
      <thead>
        <tr>
          <th scope="col">When</th>
          <th scope="col">Request</th>
          <th scope="col">Model</th>
          <th scope="col">Tenant</th>
          <th scope="col">Result</th>
          <th scope="col" class="wide">Duration</th>
          <th scope="col" class="number" title="Waiting for a worker and in it">
            Queue
          </th>
          <th scope="col" class="number" title="Time to the first token">
            First token
          </th>
          <th scope="col" class="number" title="Mean between two tokens">
            Per token
          </th>
          <th scope="col" class="number">Prompt</th>
          <th scope="col" class="number">Output</th>
        </tr>
      </thead>
      <tbody>
        {traces.map((trace, i) => (
          <RequestRow
            key={trace.traceId}
            trace={trace}
            longest={longest}
            isCurrent={i === cursor}
          />
        ))}
      </tbody>
    </table>
  );
}

function RequestRow(
  { trace, longest, isCurrent }: {
    trace: TraceSummary;
    longest: number;
    isCurrent: boolean;
  },
) {
  return (
    <tr class={isCurrent ? "current" : undefined}>
      <td data-label="When" title={formatDate(trace.startAtMs)}>
        {formatAge(trace.startAtMs, nowMs.value)}
      </td>
      <td data-label="Request" class="request-cell">
        <a
          href={`/traces/${encodeURIComponent(trace.traceId)}`}
          data-trace={trace.traceId}
        >
          <code>{trace.traceId.slice(0, 8)}</code>
        </a>{" "}
        <span class="muted">
          <Foreign text={trace.operation ?? trace.name} max={60} />
        </span>
      </td>
      <td data-label="Model">
        <Foreign text={trace.model} max={40} />
      </td>
      <td data-label="Tenant">
        <Foreign text={trace.tenant} max={24} />
      </td>
      <td data-label="Result">
        <StatusBadge trace={trace} />
        {trace.attempts > 1 && (
          <span
            class="badge warn"
            title={`${trace.attempts} decode calls: replayed after a failure`}
          >
            ×{trace.attempts}
          </span>
        )}
      </td>
      <td data-label="Duration" class="wide">
        <DurationBar trace={trace} longest={longest} />
      </td>
      <td data-label="Queue" class="number">{formatMs(trace.queueMs)}</td>
      <td data-label="First token" class="number">{formatMs(trace.ttftMs)}</td>
      <td data-label="Per token" class="number">
        {formatMs(trace.interTokenMs)}
      </td>
      <td data-label="Prompt" class="number">
        {formatCount(trace.promptTokens)}
        {(trace.cachedTokens ?? 0) > 0 && (
          <span
            class="muted"
            title={`${trace.cachedTokens} from a prefix cache`}
          >
            ({formatCount(trace.cachedTokens)})
          </span>
        )}
      </td>
      <td data-label="Output" class="number">
        {formatCount(trace.outputTokens)}
      </td>
    </tr>
  );
}

/** Queue, prompt and decoding in one bar, on the scale of the slowest shown. */
function DurationBar(
  { trace, longest }: { trace: TraceSummary; longest: number },
) {
  const queue = Math.min(trace.queueMs ?? 0, trace.durationMs);
  const first = Math.min(trace.ttftMs ?? queue, trace.durationMs);
  const parts = [
    ["queue", queue],
    ["prefill", Math.max(0, first - queue)],
    ["decode", Math.max(0, trace.durationMs - Math.max(first, queue))],
  ] as const;
  return (
    <div class="duration">
      <span class="duration-text">
        {trace.open ? unknown : formatMs(trace.durationMs)}
      </span>
      <span class="duration-track" aria-hidden="true">
        {parts.map(([name, ms]) => (
          <span
            key={name}
            class={`phase-${name}`}
            style={{ width: `${ms / longest * 100}%` }}
            title={`${name} ${formatMs(ms)}`}
          />
        ))}
      </span>
    </div>
  );
}

/** @jsxImportSource preact */
import { memo } from "preact/compat";
import { useEffect, useMemo, useRef } from "preact/hooks";
import type { TraceDetail } from "../../../api_types.ts";
import { formatMs } from "../format.ts";
import { query, setQuery } from "../navigation/address.ts";
import { Foreign, tame } from "../parts/foreign.tsx";
import { useCanvas } from "./canvas.ts";
import { SpanDetails } from "./span_details.tsx";
import { ticksOf, type TimeWindow } from "./time_window.ts";
import {
  type RowPart,
  type WaterfallRow,
  waterfallRows,
} from "./waterfall_rows.ts";

/** Rows shown at once; a trace of thousands of spans says how many follow. */
const rowsMax = 400;

interface WaterfallProps {
  readonly detail: TraceDetail;
  readonly window: TimeWindow;
}

/** Every span as a bar in time; a press on one shows all that it says. */
export function Waterfall({ detail, window }: WaterfallProps) {
  const rows = useMemo(() => waterfallRows(detail), [detail]);
  const opened = query.value.get("span");
  const ticks = ticksOf(window);
  const place = placer(window);
  return (
    <div class="waterfall">
      <div class="axis" aria-hidden="true">
        <span />
        <div class="axis-track">
          {ticks.map((ms) => (
            <span key={ms} style={{ left: `${place(ms)}%` }}>
              {formatMs(ms)}
            </span>
          ))}
        </div>
      </div>
      <ul>
        {rows.slice(0, rowsMax).map((row) => (
          <Row
            key={row.key}
            row={row}
            window={window}
            ticks={ticks}
            isOpen={opened === row.key}
            detail={detail}
          />
        ))}
      </ul>
      {rows.length > rowsMax && (
        <p class="muted">
          {rows.length - rowsMax}{" "}
          more rows are not drawn: open the trace in Jaeger to see them.
        </p>
      )}
    </div>
  );
}

interface RowProps {
  readonly row: WaterfallRow;
  readonly window: TimeWindow;
  readonly ticks: readonly number[];
  readonly isOpen: boolean;
  readonly detail: TraceDetail;
}

const Row = memo(function Row(
  { row, window, ticks, isOpen, detail }: RowProps,
) {
  const place = placer(window);
  const isInner = row.parts !== undefined;
  const left = clamp(place(row.startMs));
  const right = clamp(place(row.startMs + row.durationMs));
  const isOutside = row.startMs > window.toMs ||
    row.startMs + row.durationMs < window.fromMs;
  return (
    <li class={row.failed ? "failed" : undefined}>
      <button
        type="button"
        class="span-row"
        data-span={row.key}
        aria-expanded={isOpen}
        onClick={() => setQuery({ span: isOpen ? undefined : row.key })}
      >
        <span
          class="span-name"
          style={{ paddingInlineStart: `${Math.min(row.depth, 12) * 14}px` }}
        >
          <span class={`dot phase-${row.tone}`} aria-hidden="true" />
          <Foreign text={row.label} max={60} />
          {row.place && (
            <small class="muted">
              <Foreign text={row.place} max={40} />
            </small>
          )}
        </span>
        <span class="span-track">
          {ticks.map((ms) => (
            <span key={ms} class="tick" style={{ left: `${place(ms)}%` }} />
          ))}
          {!isOutside && (isInner ? <Parts row={row} window={window} /> : (
            <span
              class={`bar phase-${row.tone}`}
              style={{ left: `${left}%`, width: `${right - left}%` }}
            />
          ))}
          {row.marks.map((mark, i) => (
            <span
              key={i}
              class="mark"
              style={{ left: `${clamp(place(mark.atMs))}%` }}
              title={tame(mark.label, 80)}
            />
          ))}
          <span
            class="span-note"
            style={notePlace(left, right, row.note.length)}
          >
            <span class="visually-hidden">
              {`from ${formatMs(row.startMs)}${
                row.failed ? ", failed" : ""
              }, took `}
            </span>
            {isOutside ? `${row.note} (outside the view)` : row.note}
          </span>
        </span>
      </button>
      {isOpen && (
        <SpanDetails span={row.span} detail={detail} parts={row.parts} />
      )}
    </li>
  );
});

/** Chunks or steps: thousands cost one canvas, not thousands of elements. */
function Parts({ row, window }: { row: WaterfallRow; window: TimeWindow }) {
  const parts = row.parts!;
  const host = useRef<HTMLSpanElement>(null);
  const canvas = useCanvas(({ context, width, height, color }) => {
    const perMs = width / (window.toMs - window.fromMs);
    const fill = color(`phase-${row.tone}`);
    context.fillStyle = fill;
    let lastEnd = -1;
    for (const part of parts) {
      const x = (part.startMs - window.fromMs) * perMs;
      const end = x + Math.max(1, part.durationMs * perMs);
      if (end < 0 || x > width) continue;
      // Neighbours keep a gap where there is room for one.
      const from = x < lastEnd + 1 && end - lastEnd > 3 ? lastEnd + 1 : x;
      context.globalAlpha = end - from < 1.5 ? 0.75 : 1;
      context.fillRect(from, 2, Math.max(0.8, end - from), height - 4);
      lastEnd = end;
    }
  }, [parts, window.fromMs, window.toMs, row.tone]);
  useEffect(() => {
    const show = (event: PointerEvent) => {
      const box = host.current!.getBoundingClientRect();
      const at = window.fromMs +
        (event.clientX - box.left) / box.width * (window.toMs - window.fromMs);
      host.current!.title = nearest(parts, at)?.label() ?? "";
    };
    const element = host.current!;
    element.addEventListener("pointermove", show);
    return () => element.removeEventListener("pointermove", show);
  }, [parts, window.fromMs, window.toMs]);
  return (
    <span class="parts" ref={host}>
      <canvas ref={canvas} aria-hidden="true" />
    </span>
  );
}

function nearest(parts: readonly RowPart[], atMs: number): RowPart | undefined {
  let best: RowPart | undefined;
  let bestMs = Infinity;
  for (const part of parts) {
    const distance = Math.max(
      part.startMs - atMs,
      atMs - part.startMs - part.durationMs,
      0,
    );
    if (distance < bestMs) [best, bestMs] = [part, distance];
  }
  return best;
}

/** Percent of the track where a time is. */
function placer({ fromMs, toMs }: TimeWindow): (ms: number) => number {
  return (ms) => (ms - fromMs) / (toMs - fromMs) * 100;
}

function clamp(percent: number): number {
  return Math.min(100, Math.max(0, percent));
}

/** Right of the bar where there is room, else left of it, else at the end inside it. */
function notePlace(left: number, right: number, length: number) {
  // A letter takes about one percent of the track.
  const needed = length * 1.2 + 3;
  if (right + needed < 100) return { left: `calc(${right}% + 6px)` };
  if (left > needed) return { right: `calc(${100 - left}% + 6px)` };
  return { right: `calc(${100 - right}% + 8px)` };
}

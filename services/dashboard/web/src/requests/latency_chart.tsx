/** @jsxImportSource preact */
import type { StatsSlice } from "../../../api_types.ts";
import { formatClock, formatCount, formatDate, formatMs } from "../format.ts";

const width = 1_000;
const height = 120;
const barsHeight = 26;

/** Latency over time: median and 95th percentile, with counts and errors beneath. */
export function LatencyChart({ slices }: { slices: readonly StatsSlice[] }) {
  const top = niceCeiling(
    Math.max(1, ...slices.map((slice) => slice.durationMsP95 ?? 0)),
  );
  const most = Math.max(1, ...slices.map((slice) => slice.count));
  const step = width / Math.max(1, slices.length);
  const y = (ms: number) => 6 + (1 - ms / top) * (height - barsHeight - 12);
  const first = slices[0];
  const last = slices[slices.length - 1];
  return (
    <figure class="latency">
      <figcaption>
        <span class="key p50">median</span>
        <span class="key p95">p95 duration</span>
        <span class="key count">requests</span>
        <span class="key errors">errors</span>
        <span class="muted scale">{formatMs(top)} at the top</span>
      </figcaption>
      <svg
        viewBox={`0 0 ${width} ${height}`}
        preserveAspectRatio="none"
        role="img"
        aria-label={describe(slices)}
      >
        <line class="grid" x1="0" x2={width} y1={y(top)} y2={y(top)} />
        <line class="grid" x1="0" x2={width} y1={y(top / 2)} y2={y(top / 2)} />
        <line class="axis" x1="0" x2={width} y1={y(0)} y2={y(0)} />
        {slices.map((slice, i) => {
          const full = slice.count / most * (barsHeight - 4);
          const bad = slice.errors / most * (barsHeight - 4);
          const x = i * step + step * 0.14;
          return (
            <g key={slice.fromMs}>
              <title>{tooltip(slice)}</title>
              <rect
                class="hit"
                x={i * step}
                y="0"
                width={step}
                height={height}
              />
              {slice.count > 0 && (
                <rect
                  class="count"
                  x={x}
                  y={height - full}
                  width={step * 0.72}
                  height={full}
                />
              )}
              {slice.errors > 0 && (
                <rect
                  class="errors"
                  x={x}
                  y={height - Math.max(2, bad)}
                  width={step * 0.72}
                  height={Math.max(2, bad)}
                />
              )}
              <Whisker slice={slice} x={x} width={step * 0.72} y={y} />
            </g>
          );
        })}
      </svg>
      {first && last && (
        <div class="latency-times muted" aria-hidden="true">
          <span>{timeLabel(first.fromMs, first, last)}</span>
          <span>{timeLabel(last.toMs, first, last)}</span>
        </div>
      )}
    </figure>
  );
}

/** From the median up to the 95th percentile. */
function Whisker(
  { slice, x, width, y }: {
    slice: StatsSlice;
    x: number;
    width: number;
    y: (ms: number) => number;
  },
) {
  const { durationMsP50: p50, durationMsP95: p95 } = slice;
  if (p50 === null) return null;
  const high = p95 ?? p50;
  return (
    <>
      <rect
        class="range"
        x={x}
        y={y(high)}
        width={width}
        height={Math.max(1, y(p50) - y(high))}
      />
      <rect class="p95" x={x} y={y(high) - 1} width={width} height="2" />
      <rect class="p50" x={x} y={y(p50) - 1} width={width} height="2.5" />
    </>
  );
}

function tooltip(slice: StatsSlice): string {
  return `${
    formatDate(slice.fromMs)
  }\n${slice.count} requests, ${slice.errors} errors\n` +
    `median ${formatMs(slice.durationMsP50)}, p95 ${
      formatMs(slice.durationMsP95)
    }\n` +
    `first token: median ${formatMs(slice.ttftMsP50)}, p95 ${
      formatMs(slice.ttftMsP95)
    }`;
}

function describe(slices: readonly StatsSlice[]): string {
  const count = slices.reduce((sum, slice) => sum + slice.count, 0);
  const errors = slices.reduce((sum, slice) => sum + slice.errors, 0);
  const worst = Math.max(0, ...slices.map((slice) => slice.durationMsP95 ?? 0));
  return `Duration over time: ${formatCount(count)} requests, ${
    formatCount(errors)
  } errors, highest p95 ${formatMs(worst)}`;
}

function timeLabel(atMs: number, first: StatsSlice, last: StatsSlice): string {
  const isLong = last.toMs - first.fromMs > 86_400_000;
  return isLong ? formatDate(atMs).slice(0, 16) : formatClock(atMs);
}

/** 1, 2 or 5 times a power of ten. */
export function niceCeiling(value: number): number {
  const power = 10 ** Math.floor(Math.log10(value));
  return power * ([1, 2, 5, 10].find((step) => step * power >= value) ?? 10);
}

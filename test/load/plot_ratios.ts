/** A plot of ratios, a bar with its range for every file and metric. */
import type { Spread } from "./sample.ts";

interface Row {
  readonly type: string;
  readonly metric: string;
  readonly threads: number;
  readonly ratio: Spread;
}

/** Times and memory, where less is better: their ratios are turned over. */
const lessIsBetter = new Set(["load", "cold_start", "rss"]);

const rowHeight = 22;
const left = 220;
const width = 860;

/** SVG; bars show how many times better we are, a line marks the peer. */
export function plotRatios(rows: readonly Row[]): string {
  const better = rows.map(({ metric, ratio }) =>
    lessIsBetter.has(metric)
      ? { min: 1 / ratio.max, p50: 1 / ratio.p50, max: 1 / ratio.min }
      : ratio
  );
  const most = Math.max(2, ...better.map(({ max }) => max));
  const x = (value: number) =>
    (left + value / most * (width - left - 70)).toFixed(1);
  const height = rows.length * rowHeight + 60;
  const bars = rows.map(({ type, metric, threads }, i) => {
    const { min, p50, max } = better[i];
    const y = 40 + i * rowHeight;
    const color = p50 >= 1 ? "#2f7d4f" : "#b5482f";
    return [
      `<text x="${left - 8}" y="${y + 12}" text-anchor="end">${type} ` +
      `${metric}, ${threads} thr.</text>`,
      `<rect x="${left}" y="${y + 2}" width="${
        (Number(x(p50)) - left).toFixed(1)
      }" height="13" fill="${color}"/>`,
      `<line x1="${x(min)}" x2="${x(max)}" y1="${y + 8.5}" y2="${
        y + 8.5
      }" stroke="#222"/>`,
      `<text x="${Number(x(max)) + 6}" y="${y + 12}">${p50.toFixed(2)}×</text>`,
    ].join("");
  });
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" ` +
    `font-family="sans-serif" font-size="12">`,
    `<rect width="100%" height="100%" fill="#fff"/>`,
    `<text x="8" y="20" font-weight="bold">Times better than llama.cpp (median, min to max)</text>`,
    ...bars,
    `<line x1="${x(1)}" x2="${x(1)}" y1="30" y2="${
      height - 14
    }" stroke="#222" stroke-dasharray="4 3"/>`,
    `</svg>`,
    "",
  ].join("\n");
}

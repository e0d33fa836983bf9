/** A simulation as one SVG: attainment, GPUs, requests in the mesh, replicas per model. */
import type { Simulation } from "./simulate_trace.ts";
import type { Timeline } from "./measures.ts";

const width = 900;
const left = 110;
const rowHeight = 70;
const gap = 26;

export interface PlotOptions {
  readonly title: string;
  /** Models drawn in the map below, the most used first; default 24. */
  readonly modelsMax?: number;
}

export function plotSvg(
  simulation: Simulation,
  options: PlotOptions,
): string {
  const { timeline } = simulation;
  const attainment = timeline.ended.map((count, step) =>
    count === 0 ? 1 : timeline.inTime[step] / count
  );
  const charts = [
    { label: "in time", values: attainment, max: 1, unit: "share" },
    { label: "GPUs", values: timeline.gpus, max: peak(timeline.gpus) },
    {
      label: "requests",
      values: timeline.inFlight,
      max: peak(timeline.inFlight),
    },
  ];
  const parts = charts.map((chart, i) =>
    line({ ...chart, top: 40 + i * (rowHeight + gap) })
  );
  const mapTop = 40 + charts.length * (rowHeight + gap);
  const map = modelMap(timeline, mapTop, options.modelsMax ?? 24);
  const height = mapTop + map.height + 30;
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" font-family="sans-serif" font-size="11">
<rect width="${width}" height="${height}" fill="#fff"/>
<text x="${left}" y="20" font-size="13" font-weight="bold">${
    escapeXml(options.title)
  }</text>
${parts.join("\n")}
${map.svg}
<text x="${width - 10}" y="${height - 8}" text-anchor="end">${
    duration(timeline)
  }</text>
</svg>
`;
}

/** The plot with the result's numbers, as a page. */
export function plotHtml(
  simulations: readonly Simulation[],
  titleOf: (simulation: Simulation) => string,
): string {
  const sections = simulations.map((simulation) =>
    `<section>${plotSvg(simulation, { title: titleOf(simulation) })}<pre>${
      escapeXml(JSON.stringify(simulation.result, undefined, 2))
    }</pre></section>`
  );
  return `<!doctype html><meta charset="utf-8"><title>Scaling simulation</title>
<style>body{font-family:sans-serif;max-width:960px;margin:2em auto}svg{width:100%}</style>
${sections.join("\n")}
`;
}

function line(
  chart: { label: string; values: readonly number[]; max: number; top: number },
): string {
  const { label, values, max, top } = chart;
  const bottom = top + rowHeight;
  const points = values.map((value, step) => {
    const y = bottom - (max === 0 ? 0 : value / max) * rowHeight;
    return `${x(step, values.length).toFixed(1)},${y.toFixed(1)}`;
  });
  return `<text x="${left - 8}" y="${
    top + 10
  }" text-anchor="end">${label}</text>
<text x="${left - 8}" y="${top + 24}" text-anchor="end" fill="#777">max ${
    Number(max.toFixed(2))
  }</text>
<path d="M${left} ${bottom}H${width - 10}" stroke="#ccc"/>
<polyline fill="none" stroke="#1a6b4a" points="${points.join(" ")}"/>`;
}

/** One row per model: darker where more replicas are ready. */
function modelMap(
  timeline: Timeline,
  top: number,
  modelsMax: number,
): { svg: string; height: number } {
  const rows = timeline.models
    .map((model) => ({ ...model, total: model.ready.reduce(add, 0) }))
    .toSorted((a, b) => b.total - a.total)
    .slice(0, modelsMax);
  const size = 9;
  const parts = rows.map(({ name, ready }, i) => {
    const y = top + i * size;
    return `<text x="${left - 8}" y="${
      y + 8
    }" text-anchor="end" font-size="8">${escapeXml(name)}</text>${
      runs(ready).map(({ from, to, value }) =>
        `<rect x="${x(from, ready.length).toFixed(1)}" y="${y}" width="${
          (x(to, ready.length) - x(from, ready.length)).toFixed(1)
        }" height="${size - 1}" fill="#1a6b4a" fill-opacity="${
          Math.min(1, 0.25 + 0.15 * value).toFixed(2)
        }"/>`
      ).join("")
    }`;
  });
  return { svg: parts.join("\n"), height: rows.length * size };
}

/** Stretches of equal, positive values. */
function runs(values: readonly number[]) {
  const found: { from: number; to: number; value: number }[] = [];
  let from = 0;
  for (let step = 1; step <= values.length; step++) {
    if (step < values.length && values[step] === values[from]) continue;
    if (values[from] > 0) found.push({ from, to: step, value: values[from] });
    from = step;
  }
  return found;
}

function x(step: number, count: number): number {
  return left + (step / count) * (width - left - 10);
}

function duration(timeline: Timeline): string {
  const hours = (timeline.stepMs * timeline.gpus.length) / 3_600_000;
  return hours >= 48
    ? `${(hours / 24).toFixed(1)} days`
    : `${hours.toFixed(1)} hours`;
}

function peak(values: readonly number[]): number {
  return values.reduce((max, value) => Math.max(max, value), 0);
}

function add(a: number, b: number): number {
  return a + b;
}

function escapeXml(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;");
}

/** The part of the trace's time that the waterfall shows. */
import { query, setQuery } from "../navigation/address.ts";

export interface TimeWindow {
  readonly fromMs: number;
  readonly toMs: number;
}

/** From the address, within the trace; everything when the address says nothing usable. */
export function windowOf(totalMs: number): TimeWindow {
  const match = /^(\d+(?:\.\d+)?)-(\d+(?:\.\d+)?)$/.exec(
    query.value.get("zoom") ?? "",
  );
  const all = { fromMs: 0, toMs: totalMs };
  if (!match) return all;
  const fromMs = Math.max(0, Number(match[1]));
  const toMs = Math.min(totalMs, Number(match[2]));
  return toMs - fromMs > 0.001 ? { fromMs, toMs } : all;
}

export function zoomTo(window: TimeWindow | undefined): void {
  const text = window &&
    `${round(Math.max(0, window.fromMs))}-${round(window.toMs)}`;
  setQuery({ zoom: text });
}

/** Half or twice as much around the middle. */
export function zoomBy(factor: number, now: TimeWindow, totalMs: number): void {
  const middle = (now.fromMs + now.toMs) / 2;
  const half = (now.toMs - now.fromMs) * factor / 2;
  if (half * 2 >= totalMs) return zoomTo(undefined);
  const fromMs = Math.max(0, Math.min(middle - half, totalMs - half * 2));
  zoomTo({ fromMs, toMs: fromMs + half * 2 });
}

/** Round numbers for the axis, at most `most` of them. */
export function ticksOf({ fromMs, toMs }: TimeWindow, most = 6): number[] {
  const raw = (toMs - fromMs) / most;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = power * ([1, 2, 5, 10].find((one) => one * power >= raw) ?? 10);
  const ticks: number[] = [];
  for (let at = Math.ceil(fromMs / step) * step; at <= toMs; at += step) {
    ticks.push(Number(at.toPrecision(12)));
  }
  return ticks;
}

function round(ms: number): number {
  return Math.round(ms * 1_000) / 1_000;
}

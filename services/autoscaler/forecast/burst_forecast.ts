import type { TimeWindow } from "./time_window.ts";

/**
 * The highest load to expect before a replica started now would be ready.
 *
 * No distribution is assumed. For each past moment of the window the forecast
 * asks how far the load rose above its level then within the horizon, and takes
 * a quantile of those rises: a model that bursts shows large ones, a steady
 * model small ones. Until `samplesMin` are known at least the 99 % rise of
 * random arrivals with twice the variance of Poisson's is assumed:
 * 2.33 * sqrt(2 * level).
 *
 *   peak = level + max(quantile of past rises, trend)
 *
 * where trend is what the level gained over the last `levelMs`: a ramp is
 * expected to go on for as long again.
 *
 * Example: samples 4 4 6 4 4 9 4, horizon two samples. Rises from each: 2, 2,
 * 0, 5, 5 (and the last two have no full horizon); their 80 % quantile is 5:
 * with a level of 4, peak 9.
 */
export interface Forecast {
  readonly level: number;
  readonly rise: number;
  readonly peak: number;
}

export interface ForecastOptions {
  readonly nowMs: number;
  readonly horizonMs: number;
  /** Samples this recent make the level. */
  readonly levelMs: number;
  readonly quantile: number;
  /** Samples needed before the past is believed. */
  readonly samplesMin: number;
}

export function forecastPeak(
  window: TimeWindow,
  options: ForecastOptions,
): Forecast {
  const { atMs, values } = window;
  const level = levelAt(window, values.length - 1, options.levelMs);
  const rises: number[] = [];
  let end = 0;
  // Sliding maximum over (t, t + horizon]: indices of falling values.
  const ahead: number[] = [];
  for (let start = 0; start < values.length; start++) {
    const untilMs = atMs[start] + options.horizonMs;
    if (untilMs > options.nowMs) break;
    while (end < values.length && atMs[end] <= untilMs) {
      while (ahead.length && values[ahead[ahead.length - 1]] <= values[end]) {
        ahead.pop();
      }
      ahead.push(end++);
    }
    while (ahead.length && ahead[0] <= start) ahead.shift();
    const peak = ahead.length ? values[ahead[0]] : values[start];
    rises.push(Math.max(0, peak - levelAt(window, start, options.levelMs)));
  }
  const trend = level -
    levelAt(window, earlier(window, options), options.levelMs);
  const assumed = 2.33 * Math.sqrt(2 * level);
  rises.sort((a, b) => a - b);
  const index = Math.ceil(options.quantile * rises.length) - 1;
  const seen = rises[Math.max(0, index)] ?? 0;
  const known = rises.length >= options.samplesMin;
  const rise = Math.max(seen, trend, known ? 0 : assumed);
  return { level, rise, peak: level + rise };
}

/** Index of the newest sample at least `levelMs` before the last one. */
function earlier(window: TimeWindow, options: ForecastOptions): number {
  let index = window.values.length - 1;
  const untilMs = window.atMs[index] - options.levelMs;
  while (index >= 0 && window.atMs[index] > untilMs) index--;
  return index;
}

/** Mean of the samples within `levelMs` before and at `index`. */
function levelAt(window: TimeWindow, index: number, levelMs: number): number {
  if (index < 0) return 0;
  const oldestMs = window.atMs[index] - levelMs;
  let sum = 0;
  let count = 0;
  for (let i = index; i >= 0 && window.atMs[i] > oldestMs; i--) {
    sum += window.values[i];
    count++;
  }
  return count === 0 ? window.values[index] : sum / count;
}

/**
 * Samples of the last while, oldest first: what windowed means and the
 * "largest wish of the last five minutes" are taken from.
 *
 * Windows are values. Adding returns a new one, so a policy's state stays a
 * value too and a decision can be replayed.
 */
export interface TimeWindow {
  readonly atMs: readonly number[];
  readonly values: readonly number[];
}

export const emptyWindow: TimeWindow = { atMs: [], values: [] };

/** The window with one more sample, without those at or before `nowMs - spanMs`. */
export function addSample(
  window: TimeWindow,
  sample: { value: number; nowMs: number; spanMs: number },
): TimeWindow {
  const { value, nowMs, spanMs } = sample;
  let first = 0;
  const oldestMs = nowMs - spanMs;
  while (first < window.atMs.length && window.atMs[first] <= oldestMs) first++;
  const atMs = window.atMs.slice(first);
  const values = window.values.slice(first);
  atMs.push(nowMs);
  values.push(value);
  return { atMs, values };
}

/** Mean of the samples newer than `nowMs - spanMs`; 0 without any. */
export function meanSince(
  window: TimeWindow,
  nowMs: number,
  spanMs: number,
): number {
  const oldestMs = nowMs - spanMs;
  let sum = 0;
  let count = 0;
  for (let i = window.values.length - 1; i >= 0; i--) {
    if (window.atMs[i] <= oldestMs) break;
    sum += window.values[i];
    count++;
  }
  return count === 0 ? 0 : sum / count;
}

export function maxOf(window: TimeWindow): number {
  let max = -Infinity;
  for (const value of window.values) if (value > max) max = value;
  return max;
}

export function minOf(window: TimeWindow): number {
  let min = Infinity;
  for (const value of window.values) if (value < min) min = value;
  return min;
}

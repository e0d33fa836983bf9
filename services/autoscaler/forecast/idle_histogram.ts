/**
 * How long a model rests between bursts of requests: a histogram of idle times,
 * after Shahrad et al., "Serverless in the Wild" (ATC'20), which found that the
 * 5th and 99th percentile of a function's own idle times beat any fixed
 * keep-alive. Theirs has one-minute bins up to four hours; ours has 48 bins that
 * grow by 35 % from one second to two weeks, so that models asked once a day
 * are inside too. Old habits fade: at 256 entries all counts are halved.
 */
export interface IdleHistogram {
  readonly counts: readonly number[];
  readonly total: number;
}

const binCount = 48;
const firstBinMs = 1_000;
const binRatio = 1.35;
const fadeAt = 256;

export const emptyHistogram: IdleHistogram = {
  counts: new Array(binCount).fill(0),
  total: 0,
};

/** The histogram with one more idle time. */
export function recordIdle(
  histogram: IdleHistogram,
  idleMs: number,
): IdleHistogram {
  const counts = histogram.counts.slice();
  counts[binOf(idleMs)]++;
  let total = histogram.total + 1;
  if (total >= fadeAt) {
    total = 0;
    for (let i = 0; i < binCount; i++) total += counts[i] /= 2;
  }
  return { counts, total };
}

/** Upper edge of the bin that holds the quantile; absent without entries. */
export function idleQuantileMs(
  histogram: IdleHistogram,
  quantile: number,
): number | undefined {
  if (histogram.total === 0) return undefined;
  let left = quantile * histogram.total;
  for (let bin = 0; bin < binCount; bin++) {
    left -= histogram.counts[bin];
    if (left <= 1e-9) return upperEdgeMs(bin);
  }
  return upperEdgeMs(binCount - 1);
}

/**
 * P(next request within `withinMs` | idle for `idleMs` already), counting whole
 * bins after the present one; 0 without entries that long.
 */
export function arrivalProbability(
  histogram: IdleHistogram,
  idleMs: number,
  withinMs: number,
): number {
  let longer = 0;
  let soon = 0;
  for (let bin = binOf(idleMs); bin < binCount; bin++) {
    longer += histogram.counts[bin];
    if (upperEdgeMs(bin) <= idleMs + withinMs) soon += histogram.counts[bin];
  }
  return longer === 0 ? 0 : soon / longer;
}

function binOf(idleMs: number): number {
  if (idleMs <= firstBinMs) return 0;
  const bin = Math.ceil(Math.log(idleMs / firstBinMs) / Math.log(binRatio));
  return Math.min(binCount - 1, bin);
}

function upperEdgeMs(bin: number): number {
  return firstBinMs * binRatio ** bin;
}

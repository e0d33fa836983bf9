/**
 * How long a model rests between bursts of requests: a histogram of idle times,
 * after Shahrad et al., "Serverless in the Wild" (ATC'20), which found that the
 * 5th and 99th percentile of a function's own idle times beat any fixed
 * keep-alive. Theirs has one-minute bins up to four hours; ours has 148 bins that
 * grow by 10 % from one second to two weeks, so that models asked once a day
 * are inside too. Old habits fade: at 256 entries all counts are halved.
 */
export interface IdleHistogram {
  readonly counts: readonly number[];
  readonly total: number;
}

const binCount = 148;
const firstBinMs = 1_000;
const binRatio = 1.1;
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

/** While idle, when a model is worth having loaded: from `fromMs` to `untilMs`. */
export interface KeepWindow {
  readonly fromMs: number;
  readonly untilMs: number;
}

/**
 * The hybrid policy of the paper: let go at once, come back `leadMs` before the
 * shortest usual rest (5 %), stay until the longest (`coverage`, 99 % in the
 * paper: who rests longer starts cold) but for `keepMsMax` at most. Rests that begin sooner than going and coming back would take are
 * waited out. A model asked every night is not kept by day, and is there at night.
 *
 * Example: rests of about 24 h, lead 2 min, at most 4 h: from 22 or 23 h on, for
 * 4 h. Rests from 5 s to 10 min: loaded from 0 to 10 min.
 */
export function keepWindow(
  histogram: IdleHistogram,
  options: { leadMs: number; keepMsMax: number; coverage: number },
): KeepWindow | undefined {
  const shortest = idleQuantileMs(histogram, 0.05);
  const longest = idleQuantileMs(histogram, options.coverage);
  if (shortest === undefined || longest === undefined) return undefined;
  // The bin's lower edge: the rest may be that short.
  const backMs = shortest / binRatio - options.leadMs;
  const fromMs = backMs > 2 * options.leadMs ? backMs : 0;
  return { fromMs, untilMs: Math.min(longest, fromMs + options.keepMsMax) };
}

function binOf(idleMs: number): number {
  if (idleMs <= firstBinMs) return 0;
  const bin = Math.ceil(Math.log(idleMs / firstBinMs) / Math.log(binRatio));
  return Math.min(binCount - 1, bin);
}

function upperEdgeMs(bin: number): number {
  return firstBinMs * binRatio ** bin;
}

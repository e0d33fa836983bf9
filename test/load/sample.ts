/** Order statistics of repeated measurements. */
export interface Spread {
  readonly min: number;
  readonly p50: number;
  readonly max: number;
  readonly count: number;
}

export function spread(values: readonly number[]): Spread {
  if (values.length === 0) {
    throw new RangeError("Cannot summarize: needs values, found none");
  }
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  const p50 = sorted.length % 2 === 1
    ? sorted[middle]
    : (sorted[middle - 1] + sorted[middle]) / 2;
  return {
    min: sorted[0],
    p50,
    max: sorted[sorted.length - 1],
    count: sorted.length,
  };
}

/** "0.91–0.93–0.97": minimum, median, maximum. */
export function range({ min, p50, max }: Spread, digits = 2): string {
  return [min, p50, max].map((value) => value.toFixed(digits)).join("–");
}

/**
 * Where the median of what `values` are drawn from lies with 95 % confidence, by order
 * statistics (the sign test's interval, normal approximation; needs 6 values).
 */
export function interval95(values: readonly number[]): [number, number] {
  if (values.length < 6) {
    throw new RangeError(
      `Cannot bound a median: needs 6 values, found ${values.length}`,
    );
  }
  const sorted = values.toSorted((a, b) => a - b);
  const half = 0.98 * Math.sqrt(sorted.length);
  const below = Math.max(0, Math.floor(sorted.length / 2 - half));
  return [sorted[below], sorted[sorted.length - 1 - below]];
}

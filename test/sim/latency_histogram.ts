/** Latencies in bins that grow by 1 %: percentiles to 1 % in constant memory. */
export interface LatencyHistogram {
  readonly count: number;
  add(ms: number): void;
  /** Middle of the bin that holds the quantile; 0 when empty. */
  quantileMs(quantile: number): number;
}

const ratio = Math.log(1.01);
const binCount = 2_400;

export function createLatencyHistogram(): LatencyHistogram {
  const bins = new Float64Array(binCount);
  let count = 0;
  return {
    get count() {
      return count;
    },
    add(ms) {
      const bin = ms <= 0.01 ? 0 : Math.floor(Math.log(ms / 0.01) / ratio);
      bins[Math.min(binCount - 1, bin)]++;
      count++;
    },
    quantileMs(quantile) {
      let left = quantile * count;
      for (let bin = 0; bin < binCount; bin++) {
        left -= bins[bin];
        if (bins[bin] > 0 && left <= 0) {
          return 0.01 * Math.exp((bin + 0.5) * ratio);
        }
      }
      return 0;
    },
  };
}

/**
 * A histogram that takes many equal observations in one call.
 *
 * A message may bring several tokens, and each of them counts; a request observes ten
 * histograms, a step two. prom-client's own takes a microsecond and more for each
 * observation; here a call adds to two numbers, whatever its count.
 */
import type { Registry } from "prom-client";

export interface WeightedHistogramOptions {
  readonly name: string;
  readonly help: string;
  readonly labelName: string;
  /** Upper bounds, rising. */
  readonly buckets: readonly number[];
}

/** The observations of one label value. */
export interface WeightedSeries {
  /** Counts `value` so many times. */
  observe(value: number, count?: number): void;
}

interface Series extends WeightedSeries {
  /** Per bucket, and behind them what is above all bounds. */
  readonly counts: Float64Array;
  sum: number;
}

export class WeightedHistogram {
  readonly name: string;
  readonly help: string;
  readonly type = "histogram";
  readonly labelNames: readonly string[];
  readonly #buckets: readonly number[];
  readonly #series = new Map<string, Series>();

  constructor(registry: Registry, options: WeightedHistogramOptions) {
    this.name = options.name;
    this.help = options.help;
    this.labelNames = [options.labelName];
    this.#buckets = options.buckets;
    // The registry asks `name` and `get()` of a metric; its types name classes of its own.
    registry.registerMetric(this as never);
  }

  labels(value: string): WeightedSeries {
    let series = this.#series.get(value);
    if (series === undefined) {
      this.#series.set(value, series = createSeries(this.#buckets));
    }
    return series;
  }

  /** The label value's series is gone from the registry. */
  remove(value: string): void {
    this.#series.delete(value);
  }

  /** For the registry. */
  get() {
    const { name, help, type } = this;
    const values = [...this.#series].flatMap(([value, series]) =>
      this.#samples(value, series)
    );
    return Promise.resolve({ name, help, type, values, aggregator: "sum" });
  }

  /** None before the first observation, as prom-client's own has it. */
  #samples(value: string, { counts, sum }: Series) {
    if (counts.every((count) => count === 0)) return [];
    const own = { [this.labelNames[0]]: value };
    let total = 0;
    const buckets = [...counts].map((count, i) => ({
      metricName: `${this.name}_bucket`,
      labels: { le: this.#buckets[i] ?? "+Inf", ...own },
      value: total += count,
    }));
    return [
      ...buckets,
      { metricName: `${this.name}_sum`, labels: own, value: sum },
      { metricName: `${this.name}_count`, labels: own, value: total },
    ];
  }
}

function createSeries(buckets: readonly number[]): Series {
  const counts = new Float64Array(buckets.length + 1);
  return {
    counts,
    sum: 0,
    observe(value, count = 1) {
      let bucket = 0;
      while (bucket < buckets.length && value > buckets[bucket]) bucket++;
      counts[bucket] += count;
      this.sum += value * count;
    },
  };
}

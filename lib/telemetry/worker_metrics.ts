import type { Counter, Gauge } from "prom-client";
import { tokenBuckets } from "./buckets.ts";
import {
  counter,
  gauge,
  perModel,
  type Registry,
  weightedHistogram,
} from "./registry.ts";
import type { WeightedSeries } from "./weighted_histogram.ts";

/** What a prefill or decode worker sees of each model it has loaded. */
export interface WorkerMetrics {
  /** Counters of one model; ask once when it is loaded. */
  forModel(model: string): ModelWorkerMetrics;
  /** Takes a model's series away: it has left the worker. */
  forget(model: string): void;
}

export interface ModelWorkerMetrics {
  readonly running: Gauge.Internal<string>;
  readonly waiting: Gauge.Internal<string>;
  /** Share of KV blocks in use, 0..1, as in vLLM despite the name. */
  readonly kvCacheUsage: Gauge.Internal<string>;
  readonly weightBytes: Gauge.Internal<string>;
  readonly kvBytes: Gauge.Internal<string>;
  /** Prompt tokens looked up in the prefix cache, and those found. */
  readonly prefixCacheQueries: Counter.Internal;
  readonly prefixCacheHits: Counter.Internal;
  readonly promptTokens: Counter.Internal;
  readonly generationTokens: Counter.Internal;
  readonly preemptions: Counter.Internal;
  /** Seconds. */
  readonly stepTime: WeightedSeries;
  readonly batchTokens: WeightedSeries;
}

/** Registers a worker's metrics, named as users of vLLM know them. */
export function createWorkerMetrics(registry: Registry): WorkerMetrics {
  const labelNames = ["model_name"];
  const running = gauge(registry, [
    "num_requests_running",
    "Sequences in the running batch",
  ], { labelNames });
  const waiting = gauge(registry, [
    "num_requests_waiting",
    "Sequences admitted but not in the batch yet",
  ], { labelNames });
  const kvCacheUsage = gauge(registry, [
    "kv_cache_usage_perc",
    "Share of KV blocks in use, 1 is all of them",
  ], { labelNames });
  const weightBytes = gauge(registry, [
    "model_weight_bytes",
    "Bytes of weights in memory",
  ], { labelNames });
  const kvBytes = gauge(registry, [
    "model_kv_bytes",
    "Bytes of the KV pool",
  ], { labelNames });
  const prefixCacheQueries = counter(registry, [
    "prefix_cache_queries_total",
    "Prompt tokens looked up in the prefix cache",
  ], { labelNames });
  const prefixCacheHits = counter(registry, [
    "prefix_cache_hits_total",
    "Prompt tokens found in the prefix cache",
  ], { labelNames });
  const promptTokens = counter(registry, [
    "prompt_tokens_total",
    "Prompt tokens computed",
  ], { labelNames });
  const generationTokens = counter(registry, [
    "generation_tokens_total",
    "Tokens generated",
  ], { labelNames });
  const preemptions = counter(registry, [
    "num_preemptions_total",
    "Sequences that gave up their KV blocks for others",
  ], { labelNames });
  const stepTime = weightedHistogram(registry, [
    "step_time_seconds",
    "Seconds of one engine step that chose tokens",
  ], { labelName: "model_name", buckets: tokenBuckets });
  const batchTokens = weightedHistogram(registry, [
    "iteration_tokens_total",
    "Tokens computed in one engine step",
  ], { labelName: "model_name", buckets: batchTokenBuckets });

  const all = {
    running,
    waiting,
    kvCacheUsage,
    weightBytes,
    kvBytes,
    prefixCacheQueries,
    prefixCacheHits,
    promptTokens,
    generationTokens,
    preemptions,
    stepTime,
    batchTokens,
  };
  const forModel = perModel((model): ModelWorkerMetrics => ({
    running: running.labels(model),
    waiting: waiting.labels(model),
    kvCacheUsage: kvCacheUsage.labels(model),
    weightBytes: weightBytes.labels(model),
    kvBytes: kvBytes.labels(model),
    prefixCacheQueries: prefixCacheQueries.labels(model),
    prefixCacheHits: prefixCacheHits.labels(model),
    promptTokens: promptTokens.labels(model),
    generationTokens: generationTokens.labels(model),
    preemptions: preemptions.labels(model),
    stepTime: stepTime.labels(model),
    batchTokens: batchTokens.labels(model),
  }));
  return {
    forModel,
    forget(model) {
      if (!forModel.forget(model)) return;
      for (const metric of Object.values(all)) metric.remove(model);
    },
  };
}

const batchTokenBuckets = [
  1,
  8,
  16,
  32,
  64,
  128,
  256,
  512,
  1_024,
  2_048,
  4_096,
];

import type { Counter, Gauge } from "prom-client";
import {
  firstTokenBuckets,
  requestBuckets,
  tokenBuckets,
  tokenCountBuckets,
} from "./buckets.ts";
import {
  counter,
  gauge,
  type NameAndHelp,
  perModel,
  type Registry,
  weightedHistogram,
} from "./registry.ts";
import type { WeightedSeries } from "./weighted_histogram.ts";

/** What the router sees of each request. */
export interface RequestMetrics {
  /** Counters of one model; ask once per request, not per token. */
  forModel(model: string): ModelRequestMetrics;
}

export interface ModelRequestMetrics {
  readonly running: Gauge.Internal<string>;
  readonly waiting: Gauge.Internal<string>;
  readonly promptTokens: Counter.Internal;
  readonly generationTokens: Counter.Internal;
  readonly requestPromptTokens: WeightedSeries;
  readonly requestGenerationTokens: WeightedSeries;
  /** All times in seconds. */
  readonly timeToFirstToken: WeightedSeries;
  /** Of each token: those of one message share the time since the one before. */
  readonly interTokenLatency: WeightedSeries;
  readonly e2eLatency: WeightedSeries;
  readonly queueTime: WeightedSeries;
  readonly prefillTime: WeightedSeries;
  readonly decodeTime: WeightedSeries;
  readonly inferenceTime: WeightedSeries;
  /** Of each sequence, what it may generate. */
  readonly maxTokens: WeightedSeries;
  /** Of each prompt, the answers asked for. */
  readonly answerCount: WeightedSeries;
  /** "stop", "length", "abort", "tool_calls", … */
  succeeded(finishedReason: string): void;
  /** A gRPC code's name, such as "unavailable". */
  failed(code: string): void;
}

/** Registers the router's metrics, named as users of vLLM know them. */
export function createRequestMetrics(registry: Registry): RequestMetrics {
  const labelNames = ["model_name"];
  const histogram = (name: NameAndHelp, buckets: number[]) =>
    weightedHistogram(registry, name, { labelName: "model_name", buckets });

  const running = gauge(registry, [
    "num_requests_running",
    "Requests that a worker is answering",
  ], { labelNames });
  const waiting = gauge(registry, [
    "num_requests_waiting",
    "Requests that are queued or held until a worker is there",
  ], { labelNames });
  const promptTokens = counter(registry, [
    "prompt_tokens_total",
    "Prompt tokens of all requests",
  ], { labelNames });
  const generationTokens = counter(registry, [
    "generation_tokens_total",
    "Tokens generated",
  ], { labelNames });
  const requestPromptTokens = histogram([
    "request_prompt_tokens",
    "Prompt tokens of a request",
  ], tokenCountBuckets);
  const requestGenerationTokens = histogram([
    "request_generation_tokens",
    "Tokens generated for a request",
  ], tokenCountBuckets);
  const timeToFirstToken = histogram([
    "time_to_first_token_seconds",
    "Seconds from the arrival of a request to its first token",
  ], firstTokenBuckets);
  const interTokenLatency = histogram([
    "inter_token_latency_seconds",
    "Seconds between two tokens of a request",
  ], tokenBuckets);
  const e2eLatency = histogram([
    "e2e_request_latency_seconds",
    "Seconds from the arrival of a request to its last token",
  ], requestBuckets);
  const queueTime = histogram([
    "request_queue_time_seconds",
    "Seconds a request waited before a worker took it",
  ], requestBuckets);
  const prefillTime = histogram([
    "request_prefill_time_seconds",
    "Seconds from a worker taking a request to its first token",
  ], requestBuckets);
  const decodeTime = histogram([
    "request_decode_time_seconds",
    "Seconds from the first token of a request to its last",
  ], requestBuckets);
  const inferenceTime = histogram([
    "request_inference_time_seconds",
    "Seconds from a worker taking a request to its last token",
  ], requestBuckets);
  const maxTokens = histogram([
    "request_params_max_tokens",
    "Tokens that a request may generate",
  ], tokenCountBuckets);
  const answerCount = histogram([
    "request_params_n",
    "Answers asked for to one prompt",
  ], [1, 2, 5, 10, 20]);
  const success = counter(registry, [
    "request_success_total",
    "Requests that ended in tokens, by the reason they ended",
  ], { labelNames: ["model_name", "finished_reason"] });
  const failure = counter(registry, [
    "request_failure_total",
    "Requests that ended in an error, by its code",
  ], { labelNames: ["model_name", "code"] });

  return {
    forModel: perModel((model) => ({
      running: running.labels(model),
      waiting: waiting.labels(model),
      promptTokens: promptTokens.labels(model),
      generationTokens: generationTokens.labels(model),
      requestPromptTokens: requestPromptTokens.labels(model),
      requestGenerationTokens: requestGenerationTokens.labels(model),
      timeToFirstToken: timeToFirstToken.labels(model),
      interTokenLatency: interTokenLatency.labels(model),
      e2eLatency: e2eLatency.labels(model),
      queueTime: queueTime.labels(model),
      prefillTime: prefillTime.labels(model),
      decodeTime: decodeTime.labels(model),
      inferenceTime: inferenceTime.labels(model),
      maxTokens: maxTokens.labels(model),
      answerCount: answerCount.labels(model),
      succeeded: (reason) => success.labels(model, reason).inc(),
      failed: (code) => failure.labels(model, code).inc(),
    })),
  };
}

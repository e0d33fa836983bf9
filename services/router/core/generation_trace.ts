import type { Attributes, Context } from "@opentelemetry/api";
import { MeshError } from "../../../lib/errors/mesh_error.ts";
import {
  GenAiOperation,
  Keys,
  type ModelRequestMetrics,
  type OpenSpan,
  providerName,
  startSpan,
} from "../../../lib/telemetry/mod.ts";
import type { Lease } from "./dispatcher.ts";
import type { DecodeTokens } from "../../../proto/gen/quetzal/v1/decode.ts";
import type { GenerationRequest, GenerationResult } from "./generation.ts";
import {
  countFailure,
  type RouteTrace,
  startRoute,
  tracer,
} from "./route_trace.ts";
import { TokenTrace } from "./token_trace.ts";

/** A counter costs about 1 µs each time, which is much for every single token. */
const countEvery = 32;

export interface GenerationTraceOptions {
  readonly metrics: ModelRequestMetrics;
  readonly parent: Context;
  /** Prompts and answers may enter spans. */
  readonly captureContent?: boolean;
}

/** Spans, times and counts of one sequence, from its arrival to its last token. */
export class GenerationTrace {
  readonly #metrics: ModelRequestMetrics;
  readonly #open: OpenSpan;
  readonly #tokens: TokenTrace;
  readonly #startedMs = performance.now();
  #placedMs: number | undefined;
  #firstTokenMs: number | undefined;
  #lastTokenMs = 0;
  #tokenCount = 0;
  #countedTokens = 0;

  constructor(
    request: GenerationRequest,
    { metrics, parent, captureContent = false }: GenerationTraceOptions,
  ) {
    this.#metrics = metrics;
    this.#open = startSpan({
      tracer,
      name: `${operationOf(request)} ${request.model.name}`,
      attributes: requestAttributes(request),
      parent,
    });
    this.#tokens = new TokenTrace(
      captureContent && this.#open.span.isRecording(),
    );
    metrics.promptTokens.inc(request.promptIds.length);
    metrics.requestPromptTokens.observe(request.promptIds.length);
    metrics.maxTokens.observe(request.maxTokens);
  }

  /** `tokens()` wants to know what they say. */
  get wantsText(): boolean {
    return this.#tokens.wantsText;
  }

  get tokenCount(): number {
    return this.#tokenCount;
  }

  /** Queueing and the choice of workers. */
  startRoute(attempt: number): RouteTrace {
    return startRoute({
      attempt,
      parent: this.#open.context,
      metrics: this.#metrics,
      onPlaced: (lease) => this.#place(lease),
    });
  }

  /** One decode call; run it in the span, so that its metadata carry the trace. */
  startDecode(lease: Lease, emittedCount: number): OpenSpan {
    this.#metrics.running.inc();
    const open = startSpan({
      tracer,
      name: "decode",
      kind: "client",
      attributes: {
        [Keys.serverAddress]: lease.worker.record.address,
        [Keys.workerId]: lease.worker.record.workerId,
        "quetzal.replay.token_count": emittedCount,
      },
      parent: this.#open.context,
    });
    this.#tokens.begin(open.span);
    const end = () => {
      this.#metrics.running.dec();
      this.#tokens.flush();
      open.end();
    };
    return { ...open, end, [Symbol.dispose]: end };
  }

  /** The tokens of one step have arrived; `texts` as `wantsText` says. */
  tokens(step: DecodeTokens, texts: string[] | undefined): void {
    const count = step.tokens.length;
    this.#tokens.add(step, texts);
    const nowMs = performance.now();
    if (this.#firstTokenMs === undefined) this.#firstToken(nowMs);
    else {
      const seconds = (nowMs - this.#lastTokenMs) / 1_000;
      this.#metrics.interTokenLatency.observe(seconds / count, count);
    }
    this.#lastTokenMs = nowMs;
    this.#tokenCount += count;
    if (this.#tokenCount - this.#countedTokens >= countEvery) {
      this.#countTokens();
    }
  }

  end(outcome: GenerationResult | MeshError): void {
    const metrics = this.#metrics;
    const { span } = this.#open;
    this.#countTokens();
    metrics.requestGenerationTokens.observe(this.#tokenCount);
    metrics.e2eLatency.observe((performance.now() - this.#startedMs) / 1_000);
    if (this.#firstTokenMs !== undefined) {
      metrics.decodeTime.observe(
        (this.#lastTokenMs - this.#firstTokenMs) / 1_000,
      );
      metrics.inferenceTime.observe(
        (this.#lastTokenMs - (this.#placedMs ?? this.#startedMs)) / 1_000,
      );
    }
    span.setAttributes({
      [Keys.usageOutputTokens]: this.#tokenCount,
      ...this.#tokens.output(),
    });
    if (outcome instanceof MeshError) {
      countFailure(metrics, outcome);
      this.#open.fail(outcome);
    } else {
      metrics.succeeded(outcome.reason);
      span.setAttribute(Keys.responseFinishReasons, [outcome.reason]);
      span.setAttribute(Keys.usageCachedInputTokens, outcome.cachedTokens);
    }
    this.#open.end();
  }

  #countTokens(): void {
    this.#metrics.generationTokens.inc(this.#tokenCount - this.#countedTokens);
    this.#countedTokens = this.#tokenCount;
  }

  #place(lease: Lease): void {
    if (this.#placedMs !== undefined) return;
    this.#placedMs = performance.now();
    this.#metrics.queueTime.observe(lease.heldMs / 1_000);
  }

  #firstToken(nowMs: number): void {
    this.#firstTokenMs = nowMs;
    const seconds = (nowMs - this.#startedMs) / 1_000;
    this.#metrics.timeToFirstToken.observe(seconds);
    this.#metrics.prefillTime.observe(
      (nowMs - (this.#placedMs ?? this.#startedMs)) / 1_000,
    );
    this.#open.span.setAttribute(Keys.responseTimeToFirstChunk, seconds);
  }
}

function operationOf({ operation }: GenerationRequest): string {
  return GenAiOperation[operation];
}

function requestAttributes(request: GenerationRequest): Attributes {
  const { sampling } = request;
  return {
    [Keys.operationName]: operationOf(request),
    [Keys.providerName]: providerName,
    [Keys.requestModel]: request.model.name,
    [Keys.responseModel]: request.model.name,
    [Keys.responseId]: request.requestId,
    [Keys.requestMaxTokens]: request.maxTokens,
    [Keys.requestTemperature]: sampling.temperature,
    [Keys.requestTopP]: sampling.topP,
    [Keys.requestTopK]: sampling.topK,
    [Keys.requestSeed]: sampling.seed.toString(),
    [Keys.usageInputTokens]: request.promptIds.length,
    [Keys.tenant]: request.tenant,
  };
}

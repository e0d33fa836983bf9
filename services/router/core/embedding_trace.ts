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
import type { PromptGroup } from "./embed.ts";
import type { EmbeddingRequest, EmbeddingResult } from "./embedding.ts";
import {
  countFailure,
  type RouteTrace,
  startRoute,
  tracer,
} from "./route_trace.ts";

/** Spans, times and counts of a request for embeddings. */
export class EmbeddingTrace {
  readonly #metrics: ModelRequestMetrics;
  readonly #open: OpenSpan;
  readonly #startedMs = performance.now();
  #isPlaced = false;

  constructor(
    request: EmbeddingRequest,
    { metrics, parent }: {
      readonly metrics: ModelRequestMetrics;
      readonly parent: Context;
    },
  ) {
    this.#metrics = metrics;
    this.#open = startSpan({
      tracer,
      name: `${GenAiOperation.embeddings} ${request.model.name}`,
      attributes: requestAttributes(request),
      parent,
    });
    for (const { length } of request.prompts) {
      metrics.promptTokens.inc(length);
      metrics.requestPromptTokens.observe(length);
    }
  }

  /** Queueing and the choice of a worker, for one group of prompts. */
  startRoute(attempt: number): RouteTrace {
    return startRoute({
      attempt,
      parent: this.#open.context,
      metrics: this.#metrics,
      onPlaced: ({ heldMs }) => {
        if (!this.#isPlaced) this.#metrics.queueTime.observe(heldMs / 1_000);
        this.#isPlaced = true;
      },
    });
  }

  /** One call; run it in the span, so that its metadata carry the trace. */
  startCall({ worker }: Lease, { prompts, tokenCount }: PromptGroup): OpenSpan {
    this.#metrics.running.inc();
    const open = startSpan({
      tracer,
      name: "embed",
      kind: "client",
      attributes: {
        [Keys.serverAddress]: worker.record.address,
        [Keys.workerId]: worker.record.workerId,
        [Keys.workerRole]: worker.record.role,
        "quetzal.prompt.count": prompts.length,
        "quetzal.prompt.tokens": tokenCount,
      },
      parent: this.#open.context,
    });
    const end = () => {
      this.#metrics.running.dec();
      open.end();
    };
    return { ...open, end, [Symbol.dispose]: end };
  }

  end(outcome: EmbeddingResult | MeshError): void {
    const metrics = this.#metrics;
    metrics.e2eLatency.observe((performance.now() - this.#startedMs) / 1_000);
    if (outcome instanceof MeshError) {
      countFailure(metrics, outcome);
      this.#open.fail(outcome);
    } else {
      metrics.succeeded("embedding");
      this.#open.span.setAttribute(
        Keys.usageCachedInputTokens,
        outcome.cachedTokens,
      );
    }
    this.#open.end();
  }
}

function requestAttributes(request: EmbeddingRequest): Attributes {
  const { model, prompts, encodingFormat } = request;
  return {
    [Keys.operationName]: GenAiOperation.embeddings,
    [Keys.providerName]: providerName,
    [Keys.requestModel]: model.name,
    [Keys.responseModel]: model.name,
    [Keys.responseId]: request.requestId,
    [Keys.embeddingsDimensionCount]: model.hiddenSize,
    ...(encodingFormat === undefined
      ? {}
      : { [Keys.requestEncodingFormats]: [encodingFormat] }),
    [Keys.usageInputTokens]: prompts.reduce((sum, ids) => sum + ids.length, 0),
    [Keys.tenant]: request.tenant,
    "quetzal.prompt.count": prompts.length,
  };
}

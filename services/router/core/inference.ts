import { type Attributes, type Context, context } from "@opentelemetry/api";
import { Code, MeshError } from "../../../lib/errors/mesh_error.ts";
import {
  contentAttributes,
  Keys,
  type RequestMetrics,
  withSpan,
} from "../../../lib/telemetry/mod.ts";
import type { WorkerTable } from "../workers/worker_table.ts";
import type { TrafficMeter } from "../workers/traffic_meter.ts";
import { embed, type EmbedParts, sequencesOf } from "./embed.ts";
import type {
  EmbeddingInput,
  EmbeddingRequest,
  EmbeddingResult,
} from "./embedding.ts";
import { EmbeddingTrace } from "./embedding_trace.ts";
import { generate, type GenerateParts } from "./generate.ts";
import type {
  GenerationRequest,
  GenerationResult,
  GenerationSink,
} from "./generation.ts";
import type { GenerationInput, PromptInput } from "./generation_input.ts";
import { GenerationTrace } from "./generation_trace.ts";
import type { ModelCatalog, ServedModel } from "./model_catalog.ts";
import { prepare } from "./prepare.ts";
import { prepareEmbedding } from "./prepare_embedding.ts";
import { RequestError } from "./request_error.ts";
import { RequestScope } from "./request_scope.ts";
import { capable, type RouteTask } from "./route.ts";
import { tracer } from "./route_trace.ts";

export interface InferenceOptions extends GenerateParts, EmbedParts {
  readonly catalog: ModelCatalog;
  readonly workers: WorkerTable;
  readonly traffic: TrafficMeter;
  readonly metrics: RequestMetrics;
  /** A request without a deadline of its own gets this one. */
  readonly requestMs: number;
  /** Sequences running or held, all models; one more is refused. */
  readonly sequencesMax: number;
  /** Prompts and answers may enter spans; false unless set. */
  readonly captureContent?: boolean;
}

/** What every front door calls. */
export class Inference {
  readonly #options: InferenceOptions;
  readonly #running = new Set<RequestScope>();
  #sequenceCount = 0;
  #draining = false;

  constructor(options: InferenceOptions) {
    this.#options = options;
  }

  get catalog(): ModelCatalog {
    return this.#options.catalog;
  }

  /** Requests that have not ended yet. */
  get requestCount(): number {
    return this.#running.size;
  }

  get draining(): boolean {
    return this.#draining;
  }

  /** Can some model be served now, and do we take requests? */
  get ready(): boolean {
    if (this.#draining) return false;
    return this.catalog.all.some(({ name }) =>
      this.workerCount("decode", name) > 0
    );
  }

  workerCount(role: "prefill" | "decode", model: string): number {
    return this.#options.workers.serving(role, model).length;
  }

  /** Opens the life of one request; refuses while draining. Dispose it at the end. */
  open(deadlineMs?: number): RequestScope {
    if (this.#draining) {
      throw new RequestError(
        Code.unavailable,
        "Cannot take the request: the router shuts down",
        {
          retryAfterMs: 1_000,
        },
      );
    }
    const limitMs = Date.now() + this.#options.requestMs;
    const scope = new RequestScope(
      Math.min(deadlineMs ?? Infinity, limitMs),
      () => this.#running.delete(scope),
    );
    this.#running.add(scope);
    return scope;
  }

  /**
   * Checks, templates and tokenizes; a router that is full refuses without doing so.
   * @param n Answers that are asked for.
   */
  prepare(
    input: GenerationInput,
    requestId: string,
    n = 1,
  ): GenerationRequest {
    this.#refuseWhenFull(1);
    const model = this.catalog.resolve(input.model);
    this.#options.metrics.forModel(model.name).answerCount.observe(n);
    return withSpan({ tracer, name: "tokenize" }, (span) => {
      const contextLength = this.contextLength(model);
      const request = prepare(input, { requestId, model, contextLength });
      span.setAttributes({
        [Keys.usageInputTokens]: request.promptIds.length,
        ...this.#inputContent(contentOf(input.prompt)),
      });
      return request;
    });
  }

  /** The same for embeddings. */
  prepareEmbedding(input: EmbeddingInput, requestId: string): EmbeddingRequest {
    this.#refuseWhenFull(1);
    const model = this.catalog.resolve(input.model);
    return withSpan({ tracer, name: "tokenize" }, (span) => {
      const contextLength = this.contextLength(model, "embed");
      const request = prepareEmbedding(input, {
        requestId,
        model,
        contextLength,
      });
      span.setAttributes({
        [Keys.usageInputTokens]: request.prompts.reduce(
          (sum, { length }) => sum + length,
          0,
        ),
        ...this.#inputContent(
          input.inputs.map(({ prompt }) => contentOf(prompt)),
        ),
      });
      return request;
    });
  }

  /** What the model's file allows, or less when the live workers have less room. */
  contextLength(
    { name, contextLength }: ServedModel,
    task: RouteTask = "generate",
  ): number {
    const { workers: table } = this.#options;
    const workers = capable({ model: name, task }, table).flat();
    const lengths = workers.map((worker) =>
      worker.served(name)?.contextLength ?? 0
    );
    return lengths.length === 0
      ? contextLength
      : Math.min(contextLength, Math.max(...lengths));
  }

  /** Runs one sequence of a request. */
  async generate(
    request: GenerationRequest,
    sink: GenerationSink,
    { scope, parent = context.active() }: {
      scope: RequestScope;
      parent?: Context;
    },
  ): Promise<GenerationResult> {
    this.#admit(1);
    const { traffic, metrics, captureContent } = this.#options;
    const { name } = request.model;
    const trace = new GenerationTrace(request, {
      metrics: metrics.forModel(name),
      parent,
      captureContent,
    });
    const meter = traffic.begin(name, request.promptIds.length);
    let outcome: GenerationResult | MeshError | undefined;
    try {
      outcome = await generate(request, { sink, scope, trace }, this.#options);
      return outcome;
    } catch (reason) {
      outcome = MeshError.from(reason);
      throw outcome;
    } finally {
      this.#sequenceCount--;
      const failed = outcome instanceof MeshError ? outcome : undefined;
      meter.end(failed, trace.tokenCount);
      trace.end(outcome!);
    }
  }

  /** Turns all prompts of a request into vectors, or none of them. */
  async embed(
    request: EmbeddingRequest,
    { scope, parent = context.active() }: {
      scope: RequestScope;
      parent?: Context;
    },
  ): Promise<EmbeddingResult> {
    const sequenceCount = sequencesOf(request);
    this.#admit(sequenceCount);
    const { metrics } = this.#options;
    const trace = new EmbeddingTrace(request, {
      metrics: metrics.forModel(request.model.name),
      parent,
    });
    let outcome: EmbeddingResult | MeshError | undefined;
    try {
      outcome = await embed(request, { scope, trace }, this.#options);
      return outcome;
    } catch (reason) {
      outcome = MeshError.from(reason);
      throw outcome;
    } finally {
      this.#sequenceCount -= sequenceCount;
      trace.end(outcome!);
    }
  }

  /** Takes no new requests; resolves when running ones have ended, cut off after `graceMs`. */
  async drain(graceMs: number): Promise<void> {
    this.#draining = true;
    const deadlineMs = Date.now() + graceMs;
    while (this.#running.size > 0 && Date.now() < deadlineMs) await pause(20);
    for (const scope of this.#running) {
      scope.abort(
        new MeshError(Code.unavailable, "Cannot finish: the router shuts down"),
      );
    }
    const lastMs = Date.now() + 1_000;
    while (this.#running.size > 0 && Date.now() < lastMs) await pause(20);
  }

  #inputContent(input: unknown): Attributes {
    const { captureContent = false } = this.#options;
    return contentAttributes({ captureContent, input });
  }

  #admit(count: number): void {
    this.#refuseWhenFull(count);
    this.#sequenceCount += count;
  }

  #refuseWhenFull(count: number): void {
    const { sequencesMax } = this.#options;
    if (this.#sequenceCount + count > sequencesMax) {
      throw new RequestError(
        Code.resourceExhausted,
        `Cannot take the request: ${sequencesMax} sequences are running or waiting here`,
        { reason: "queue_full", retryAfterMs: 1_000 },
      );
    }
  }
}

function contentOf(prompt: PromptInput): unknown {
  switch (prompt.kind) {
    case "chat":
      return prompt.messages;
    case "text":
      return prompt.text;
    case "ids":
      return prompt.ids;
  }
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

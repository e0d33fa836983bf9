/** `quetzal.v1.Embed`: some prompts a call, each one a sequence of an engine. */
import { trace } from "@opentelemetry/api";
import {
  type EmbedRunRequest,
  type EmbedRunResponse,
  EmbedService,
  type EmbedVector,
} from "../../proto/gen/quetzal/v1/embed.ts";
import type { EmbedResult, EmbedSpec, Engine } from "../engine/types.ts";
import { type CallContext, type RpcService, unary } from "../rpc/mod.ts";
import {
  GenAiOperation,
  Keys,
  type OpenSpan,
  providerName,
  startSpan,
} from "../telemetry/mod.ts";
import type { Admission } from "./admission.ts";
import type { WorkerObserver } from "./observer.ts";
import { refuse, toTokenIds } from "./sequence_request.ts";
import type { ServedModel, ServedModels } from "./served_models.ts";

export interface EmbedParts {
  readonly models: ServedModels;
  readonly admission: Admission;
  readonly observer: WorkerObserver;
}

/** Prompts of a call: they enter the engine together, so its queue must bear them. */
export const embedPromptsMax = 64;

const tracer = trace.getTracer("quetzal.worker");

export function embedService(parts: EmbedParts): RpcService {
  return {
    name: "quetzal.v1.Embed",
    definition: EmbedService,
    implementation: {
      run: unary<EmbedRunRequest, EmbedRunResponse>((request, call) =>
        run(parts, request, call)
      ),
    },
  };
}

async function run(
  parts: EmbedParts,
  request: EmbedRunRequest,
  call: CallContext,
): Promise<EmbedRunResponse> {
  using onWorker = parts.admission.enter(call.signal);
  const model = parts.models.get(request.model);
  using admitted = model.admission.enter(onWorker.signal);
  const specs = toSpecs(request, model);
  using open = openSpan(request, call);
  try {
    const results = await embedAll(model.engine, specs, admitted.signal);
    const observer = parts.observer.forModel(model.name);
    for (const result of results) observer.embedded(result);
    describe(open, results);
    return { vectors: results.map(toVector) };
  } catch (reason) {
    open.fail(reason);
    throw reason;
  }
}

/** The first failure ends the others: a call has one answer. */
async function embedAll(
  engine: Engine,
  specs: readonly EmbedSpec[],
  callSignal: AbortSignal,
): Promise<EmbedResult[]> {
  const failure = new AbortController();
  const signal = AbortSignal.any([callSignal, failure.signal]);
  const running = specs.map((spec) => engine.embed(spec, { signal }));
  try {
    return await Promise.all(running);
  } catch (reason) {
    failure.abort(reason);
    await Promise.allSettled(running);
    throw reason;
  }
}

function toSpecs(request: EmbedRunRequest, model: ServedModel): EmbedSpec[] {
  const { prompts, requestId } = request;
  if (!(prompts.length >= 1 && prompts.length <= embedPromptsMax)) {
    refuse("prompts", `1..${embedPromptsMax} prompts`, prompts.length);
  }
  const { contextLength } = model.engine;
  return prompts.map(({ ids }, index) => {
    const field = `prompts[${index}].ids`;
    if (!(ids.length >= 1 && ids.length <= contextLength)) {
      refuse(field, `1..${contextLength} ids`, ids.length);
    }
    return {
      requestId: prompts.length === 1 ? requestId : `${requestId}-${index}`,
      promptIds: toTokenIds(ids, model, field),
    };
  });
}

function toVector(result: EmbedResult): EmbedVector {
  return {
    // ts-proto wants an array; the values are only read.
    values: result.values as unknown as number[],
    cachedTokens: result.cachedTokens,
    computedTokens: result.computedTokens,
    queueUs: BigInt(result.queueUs),
    computeUs: BigInt(result.computeUs),
  };
}

function openSpan(request: EmbedRunRequest, call: CallContext): OpenSpan {
  return startSpan({
    tracer,
    name: "embed.run",
    kind: "server",
    parent: call.trace,
    attributes: {
      [Keys.operationName]: GenAiOperation.embeddings,
      [Keys.providerName]: providerName,
      [Keys.requestModel]: request.model,
      [Keys.sequenceId]: request.requestId,
      [Keys.tenant]: request.tenant,
      "quetzal.prompt.count": request.prompts.length,
    },
  });
}

/** The slowest prompt tells how long the call took. */
function describe({ span }: OpenSpan, results: readonly EmbedResult[]): void {
  const sum = (of: (result: EmbedResult) => number) =>
    results.reduce((total, result) => total + of(result), 0);
  const max = (of: (result: EmbedResult) => number) =>
    results.reduce((most, result) => Math.max(most, of(result)), 0);
  span.setAttributes({
    [Keys.usageInputTokens]: sum((one) =>
      one.cachedTokens + one.computedTokens
    ),
    [Keys.usageCachedInputTokens]: sum((one) => one.cachedTokens),
    [Keys.queueWaitMs]: max((one) => one.queueUs) / 1_000,
    "quetzal.computed_tokens": sum((one) => one.computedTokens),
    "quetzal.compute_ms": max((one) => one.computeUs) / 1_000,
  });
}

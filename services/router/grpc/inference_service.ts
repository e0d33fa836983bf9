import { randomUUID } from "node:crypto";
import {
  type CallContext,
  type RpcService,
  type RpcSink,
  serverStream,
  toStreamError,
  unary,
} from "../../../lib/rpc/mod.ts";
import type { Logger } from "../../../lib/telemetry/mod.ts";
import { FinishReason } from "../../../proto/gen/quetzal/v1/common.ts";
import {
  type DetokenizeRequest,
  type EmbedRequest,
  type EmbedResponse,
  type GenerateRequest,
  type GenerateResponse,
  InferenceService,
  type ListModelsResponse,
  type TokenizeRequest,
} from "../../../proto/gen/quetzal/v1/inference.ts";
import {
  type AnswerDelta,
  check,
  encodeIds,
  encodeText,
  type Inference,
  RequestScope,
  text,
} from "../core/mod.ts";
import { answering } from "./answering.ts";
import { embeddingInput } from "./embedding_input.ts";
import { generateInput } from "./generate_input.ts";

export interface GrpcParts {
  readonly inference: Inference;
  readonly logger: Pick<Logger, "error">;
}

/** `quetzal.v1.Inference` */
export function inferenceService(
  { inference, logger }: GrpcParts,
): RpcService {
  const parts = (prefix: string) => ({
    logger,
    requestId: `${prefix}-${randomUUID()}`,
  });
  return {
    name: "quetzal.v1.Inference",
    definition: InferenceService,
    implementation: {
      generate: serverStream<GenerateRequest, GenerateResponse>(
        (request, call, sink) => {
          const named = parts("gen");
          return answering(
            named,
            () => generate({ inference, ...named }, request, { call, sink }),
          );
        },
        (reason) => ({
          event: { $case: "error", value: toStreamError(reason) },
        }),
      ),
      embed: unary((request: EmbedRequest, call) => {
        const named = parts("embd");
        return answering(
          named,
          () => embed({ inference, ...named }, request, call),
        );
      }),
      tokenize: unary((request: TokenizeRequest) =>
        answering(parts("tok"), () => tokenize(inference, request))
      ),
      detokenize: unary((request: DetokenizeRequest) =>
        answering(parts("detok"), () => detokenize(inference, request))
      ),
      listModels: unary(() => listModels(inference)),
    },
  };
}

/** Opens the life of a call: it ends with the call's deadline or its cancellation. */
export function openScope(
  inference: Inference,
  call: CallContext,
): RequestScope {
  const scope = inference.open(call.deadlineMs);
  if (call.signal.aborted) scope.clientGone();
  call.signal.addEventListener("abort", () => scope.clientGone(), {
    once: true,
  });
  return scope;
}

async function generate(
  { inference, requestId }: {
    readonly inference: Inference;
    readonly requestId: string;
  },
  message: GenerateRequest,
  { call, sink: out }: {
    readonly call: CallContext;
    readonly sink: RpcSink<GenerateResponse>;
  },
): Promise<void> {
  using scope = openScope(inference, call);
  const request = inference.prepare(generateInput(message), requestId);
  const promptTokens = request.promptIds.length;
  const { model } = request;
  out.write({
    event: {
      $case: "started",
      value: { requestId, model: model.name, promptTokens },
    },
  });
  const sink = {
    write: (delta: AnswerDelta) => out.write(deltaMessage(delta)),
  };
  const result = await inference.generate(request, sink, { scope });
  out.write({
    event: {
      $case: "finished",
      value: {
        reason: result.reason === "stop"
          ? FinishReason.FINISH_REASON_STOP
          : FinishReason.FINISH_REASON_LENGTH,
        promptTokens,
        completionTokens: result.completionTokens,
        cachedTokens: result.cachedTokens,
      },
    },
  });
}

function deltaMessage({ text, tokens }: AnswerDelta): GenerateResponse {
  return {
    event: {
      $case: "delta",
      value: { text, tokens: tokens.map(({ token }) => token) },
    },
  };
}

async function embed(
  { inference, requestId }: {
    readonly inference: Inference;
    readonly requestId: string;
  },
  message: EmbedRequest,
  call: CallContext,
): Promise<EmbedResponse> {
  using scope = openScope(inference, call);
  const request = inference.prepareEmbedding(
    embeddingInput(message),
    requestId,
  );
  const { vectors, promptTokens, cachedTokens } = await inference.embed(
    request,
    { scope },
  );
  return {
    model: request.model.name,
    embeddings: vectors.map((values, index) => ({
      // ts-proto wants an array that may be written; it is only read.
      values: values as number[],
      promptTokens: request.prompts[index].length,
    })),
    promptTokens,
    cachedTokens,
  };
}

function tokenize(
  inference: Inference,
  { model, text: raw, addSpecial }: TokenizeRequest,
) {
  const served = inference.catalog.resolve(model);
  const contextLength = inference.contextLength(served);
  const ids = encodeText(check(text, raw), served, {
    addSpecial: addSpecial ?? true,
    contextLength,
    field: "text",
  });
  return { ids: [...ids], contextLength };
}

function detokenize(inference: Inference, { model, ids }: DetokenizeRequest) {
  const served = inference.catalog.resolve(model);
  const checked = encodeIds(ids, served, {
    contextLength: inference.contextLength(served),
    field: "ids",
  });
  return { text: served.tokenizer.decode(checked) };
}

function listModels(inference: Inference): ListModelsResponse {
  const models = inference.catalog.all.map((model) => ({
    name: model.name,
    contextLength: inference.contextLength(model),
    vocabSize: model.tokenizer.vocabSize,
    decodeWorkers: inference.workerCount("decode", model.name),
    prefillWorkers: inference.workerCount("prefill", model.name),
  }));
  return { models };
}

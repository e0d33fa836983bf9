import { randomUUID } from "node:crypto";
import {
  type CallContext,
  type RpcService,
  unary,
} from "../../../lib/rpc/mod.ts";
import {
  GRPCInferenceServiceService,
  type ModelInferRequest,
  type ModelInferResponse,
  type ModelMetadataRequest,
  type ModelReadyRequest,
} from "../../../proto/gen/inference/grpc_service.ts";
import type { AnswerDelta, Inference } from "../core/mod.ts";
import { answering } from "./answering.ts";
import { type GrpcParts, openScope } from "./inference_service.ts";
import { inferInput, requireVersion, textTensor } from "./kserve_tensors.ts";

/** `inference.GRPCInferenceService` (KServe v2): one text in, one text out. */
export function kserveService(
  { inference, logger, version }: GrpcParts & { readonly version: string },
): RpcService {
  return {
    name: "inference.GRPCInferenceService",
    definition: GRPCInferenceServiceService,
    implementation: {
      serverLive: unary(() => ({ live: true })),
      serverReady: unary(() => ({ ready: inference.ready })),
      modelReady: unary((request: ModelReadyRequest) =>
        modelReady(inference, request)
      ),
      serverMetadata: unary(() => ({
        name: "quetzal",
        version,
        extensions: [],
      })),
      modelMetadata: unary((request: ModelMetadataRequest) =>
        modelMetadata(inference, request)
      ),
      modelInfer: unary((request: ModelInferRequest, call) => {
        const requestId = `infer-${randomUUID()}`;
        return answering(
          { logger, requestId },
          () => modelInfer({ inference, requestId }, request, call),
        );
      }),
    },
  };
}

/** Models have no versions here; "" and "1" name the one there is. */
const modelVersion = "1";

function modelReady(
  inference: Inference,
  { name, version }: ModelReadyRequest,
) {
  const model = inference.catalog.resolve(name);
  requireVersion(version, modelVersion);
  return { ready: inference.workerCount("decode", model.name) > 0 };
}

function modelMetadata(
  inference: Inference,
  { name, version }: ModelMetadataRequest,
) {
  const model = inference.catalog.resolve(name);
  requireVersion(version, modelVersion);
  return {
    name: model.name,
    versions: [modelVersion],
    platform: "quetzal",
    inputs: [{ name: "text_input", datatype: "BYTES", shape: [1n] }],
    outputs: [{ name: "text_output", datatype: "BYTES", shape: [1n] }],
    properties: { context_length: String(inference.contextLength(model)) },
  };
}

async function modelInfer(
  { inference, requestId }: {
    readonly inference: Inference;
    readonly requestId: string;
  },
  message: ModelInferRequest,
  call: CallContext,
): Promise<ModelInferResponse> {
  requireVersion(message.modelVersion, modelVersion);
  using scope = openScope(inference, call);
  const request = inference.prepare(inferInput(message), requestId);
  let text = "";
  const sink = {
    write(delta: AnswerDelta) {
      text += delta.text;
      return undefined;
    },
  };
  const result = await inference.generate(request, sink, { scope });
  return {
    modelName: request.model.name,
    modelVersion,
    id: message.id,
    parameters: {
      finish_reason: {
        parameterChoice: { $case: "stringParam", value: result.reason },
      },
      prompt_tokens: int64(result.promptTokens),
      completion_tokens: int64(result.completionTokens),
    },
    ...textTensor(text, { raw: message.rawInputContents.length > 0 }),
  };
}

function int64(value: number) {
  return {
    parameterChoice: { $case: "int64Param" as const, value: BigInt(value) },
  };
}

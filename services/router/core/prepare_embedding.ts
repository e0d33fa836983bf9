import { Code } from "../../../lib/errors/mesh_error.ts";
import type {
  EmbeddingInput,
  EmbeddingRequest,
  NamedPrompt,
} from "./embedding.ts";
import { encodeIds, encodeText } from "./encode.ts";
import type { ServedModel } from "./model_catalog.ts";
import type { PrepareOptions } from "./prepare.ts";
import { RequestError } from "./request_error.ts";

/** Tokenize and fit: from checked fields to ids. */
export function prepareEmbedding(
  input: EmbeddingInput,
  options: PrepareOptions,
): EmbeddingRequest {
  const { requestId, model } = options;
  requireDimensions(input, model);
  return {
    requestId,
    model,
    prompts: input.inputs.map((one) => encode(one, options)),
    normalize: input.normalize,
    encodingFormat: input.encodingFormat,
    tenant: input.tenant,
  };
}

/** A vector cut short would need a model that was trained for it. */
function requireDimensions(
  { dimensions }: EmbeddingInput,
  { name, hiddenSize }: ServedModel,
): void {
  if (dimensions === undefined || dimensions === hiddenSize) return;
  throw new RequestError(
    Code.invalidArgument,
    `Cannot accept "dimensions": vectors of "${name}" have ${hiddenSize} values, found ${dimensions}`,
    { field: "dimensions", reason: "invalid_value" },
  );
}

function encode(
  { prompt, field }: NamedPrompt,
  { model, contextLength }: PrepareOptions,
): Int32Array {
  const bounds = { contextLength, field };
  const ids = prompt.kind === "text"
    ? encodeText(prompt.text, model, bounds)
    : encodeIds(prompt.ids, model, bounds);
  if (ids.length === 0) {
    throw new RequestError(
      Code.invalidArgument,
      `Cannot embed "${field}": needs at least 1 token, found 0`,
      { field, reason: "invalid_value" },
    );
  }
  if (ids.length <= contextLength) return ids;
  throw new RequestError(
    Code.invalidArgument,
    `Cannot embed "${field}": found ${ids.length} tokens, the context length is ${contextLength} tokens`,
    { field, reason: "context_length_exceeded" },
  );
}

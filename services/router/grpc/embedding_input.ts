import { z } from "zod";
import type {
  EmbedInput,
  EmbedRequest,
} from "../../../proto/gen/quetzal/v1/inference.ts";
import {
  check,
  type EmbeddingInput,
  embeddingInputsMax,
  type NamedPrompt,
  text,
  tokenIds,
} from "../core/mod.ts";

const fields = z.object({
  model: text.max(256),
  tenant: text.max(256),
  inputs: z.array(z.unknown()).min(1).max(embeddingInputsMax),
});

/** The proto's request under the rules that HTTP has too. */
export function embeddingInput(request: EmbedRequest): EmbeddingInput {
  const { model, tenant } = check(fields, request);
  return {
    model,
    inputs: request.inputs.map(namedPrompt),
    normalize: request.normalize ?? true,
    tenant,
  };
}

function namedPrompt({ input }: EmbedInput, index: number): NamedPrompt {
  const at = `inputs[${index}]`;
  if (input?.$case === "tokens") {
    const field = `${at}.tokens.ids`;
    return {
      prompt: { kind: "ids", ids: one(tokenIds, field, input.value.ids) },
      field,
    };
  }
  const field = `${at}.text`;
  return {
    prompt: { kind: "text", text: one(text.min(1), field, input?.value) },
    field,
  };
}

/** Checks one value; a fault names it by its whole path. */
function one<S extends z.ZodType>(
  schema: S,
  field: string,
  value: unknown,
): z.output<S> {
  return check(z.object({ [field]: schema }), {
    [field]: value,
  })[field] as z.output<S>;
}

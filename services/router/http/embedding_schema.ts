import { z } from "zod";
import { type EmbeddingInput, embeddingInputsMax, text } from "../core/mod.ts";
import { modelField, userField } from "./common_fields.ts";
import { harmlessFields, only } from "./fields.ts";
import { promptForms } from "./prompt_forms.ts";

export const embeddingSchema = z.strictObject({
  ...harmlessFields,
  model: modelField,
  input: promptForms({ text: text.min(1), most: embeddingInputsMax }),
  encoding_format: z.enum(["float", "base64"]).nullish()
    .transform((value) => value ?? "float"),
  dimensions: z.int().min(1).max(2 ** 31 - 1).nullish(),
  normalize: z.boolean().nullish(),
  truncate_prompt_tokens: only([], "nothing of an input is left out"),
  user: userField,
});

export type EmbeddingBody = z.output<typeof embeddingSchema>;

export function embeddingInput(
  body: EmbeddingBody,
  { isList }: { readonly isList: boolean },
): EmbeddingInput {
  return {
    model: body.model,
    inputs: body.input.map((prompt, index) => ({
      prompt,
      field: isList ? `input[${index}]` : "input",
    })),
    dimensions: body.dimensions ?? undefined,
    normalize: body.normalize ?? true,
    encodingFormat: body.encoding_format,
    tenant: body.user,
  };
}

/** Whether the body's `input` lists several: one text or one list of ids does not. */
export function isInputList({ input }: Record<string, unknown>): boolean {
  return Array.isArray(input) && typeof input[0] !== "number";
}

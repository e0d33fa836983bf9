import { z } from "zod";
import {
  type GenerationInput,
  type PromptInput,
  text,
  tokenIds,
} from "../core/mod.ts";
import {
  checkStreamOptions,
  choicesMax,
  commonFields,
} from "./common_fields.ts";
import { only } from "./fields.ts";

const texts = z.array(text).min(1).max(choicesMax);
const idLists = z.array(tokenIds).min(1).max(choicesMax);

/** The first element tells which of the four forms is meant, so that a fault is named within it. */
const prompt = z.unknown().transform((value, context) => {
  const result = formOf(value).safeParse(value);
  if (result.success) return promptsOf(result.data);
  for (const issue of result.error.issues) {
    context.issues.push({ ...issue, input: value } as z.core.$ZodRawIssue);
  }
  return z.NEVER;
});

function formOf(value: unknown) {
  if (!Array.isArray(value)) return text;
  if (typeof value[0] === "number") return tokenIds;
  return Array.isArray(value[0]) ? idLists : texts;
}

export const completionSchema = z.strictObject({
  ...commonFields,
  prompt,
  logprobs: z.int().min(0).max(20).nullish(),
  echo: only([false], "the answer does not repeat the prompt"),
  suffix: only([""], "text is only continued at its end"),
  best_of: z.int().nullish(),
}).superRefine((body, context) => {
  checkStreamOptions(body, context);
  if (typeof body.best_of === "number" && body.best_of !== body.n) {
    context.addIssue({
      code: "custom",
      path: ["best_of"],
      message: "is not supported: all n answers are returned",
      params: { unsupported: true },
    });
  }
  if (body.prompt.length * body.n > choicesMax) {
    context.addIssue({
      code: "custom",
      path: ["n"],
      message: `times the number of prompts must be at most ${choicesMax}, ` +
        `found ${body.n} times ${body.prompt.length}`,
    });
  }
});

export type CompletionBody = z.output<typeof completionSchema>;

/** OpenAI's documented default for this endpoint; chat has none. */
const maxTokensDefault = 16;

/** One input per prompt. */
export function completionInputs(body: CompletionBody): GenerationInput[] {
  return body.prompt.map((prompt) => ({
    model: body.model,
    prompt,
    sampling: { ...body, max_tokens: body.max_tokens ?? maxTokensDefault },
    topLogprobs: body.logprobs ?? undefined,
    tenant: body.user,
  }));
}

function promptsOf(
  value:
    | string
    | readonly number[]
    | readonly string[]
    | readonly (readonly number[])[],
): PromptInput[] {
  if (typeof value === "string") return [{ kind: "text", text: value }];
  if (typeof value[0] === "number") {
    return [{ kind: "ids", ids: value as readonly number[] }];
  }
  return (value as readonly (string | readonly number[])[]).map((one) =>
    typeof one === "string"
      ? { kind: "text", text: one }
      : { kind: "ids", ids: one }
  );
}

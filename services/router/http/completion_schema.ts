import { z } from "zod";
import { type GenerationInput, text } from "../core/mod.ts";
import {
  checkStreamOptions,
  choicesMax,
  commonFields,
} from "./common_fields.ts";
import { only } from "./fields.ts";
import { promptForms } from "./prompt_forms.ts";

const prompt = promptForms({ text, most: choicesMax });

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

import { z } from "zod";
import { samplingFields, text } from "../core/mod.ts";
import { harmlessFields, unsupportedFields } from "./fields.ts";

/** Sequences one request may ask for. */
export const choicesMax = 128;

/** Empty: the only model there is. */
export const modelField = text.max(256).nullish()
  .transform((value) => value ?? "");

/** Whom the request is for. */
export const userField = text.max(256).nullish()
  .transform((value) => value ?? "");

/** What chat and text completions have in common. */
export const commonFields = {
  ...samplingFields,
  ...harmlessFields,
  ...unsupportedFields,
  model: modelField,
  n: z.int().min(1).max(16).nullish().transform((value) => value ?? 1),
  stream: z.boolean().nullish().transform((value) => value ?? false),
  stream_options: z.strictObject({
    include_usage: z.boolean().nullish(),
    include_obfuscation: z.boolean().nullish(),
  }).nullish(),
  user: userField,
} as const;

/** Usage may only be asked for where there is a stream to put it in. */
export function checkStreamOptions(
  body: { stream: boolean; stream_options?: unknown },
  context: z.core.$RefinementCtx,
): void {
  if (
    body.stream || body.stream_options === undefined ||
    body.stream_options === null
  ) return;
  context.addIssue({
    code: "custom",
    path: ["stream_options"],
    message: "needs stream to be true",
  });
}

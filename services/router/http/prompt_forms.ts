import { z } from "zod";
import { type PromptInput, tokenIds } from "../core/mod.ts";

/** A text or a list of token ids. */
export type PlainPrompt = Exclude<PromptInput, { kind: "chat" }>;

/**
 * OpenAI's four forms: a text, texts, ids, lists of ids; `most` of them at a time. The
 * first element tells which is meant, so that a fault is named within it.
 */
export function promptForms(
  { text, most }: {
    readonly text: z.ZodType<string>;
    readonly most: number;
  },
) {
  const texts = z.array(text).min(1).max(most);
  const idLists = z.array(tokenIds).min(1).max(most);
  const formOf = (value: unknown) => {
    if (!Array.isArray(value)) return text;
    if (typeof value[0] === "number") return tokenIds;
    return Array.isArray(value[0]) ? idLists : texts;
  };
  return z.unknown().transform((value, context) => {
    const result = formOf(value).safeParse(value);
    if (result.success) return promptsOf(result.data);
    for (const issue of result.error.issues) {
      context.issues.push({ ...issue, input: value } as z.core.$ZodRawIssue);
    }
    return z.NEVER;
  });
}

function promptsOf(
  value:
    | string
    | readonly number[]
    | readonly string[]
    | readonly (readonly number[])[],
): PlainPrompt[] {
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

import { z } from "zod";
import { type GenerationInput, text } from "../core/mod.ts";
import { checkStreamOptions, commonFields } from "./common_fields.ts";
import { only } from "./fields.ts";

const textType = z.string().refine((type): boolean => type === "text", {
  error: 'is not supported: only parts of type "text" are',
  params: { unsupported: true },
  abort: true,
});

/** Checked in two steps, so that an image part is refused for its type and not for its keys. */
const part = z.looseObject({ type: textType }).pipe(
  z.strictObject({ type: z.string(), text }),
);

const content = z.union([text, z.array(part).min(1)]).transform((value) =>
  typeof value === "string" ? value : value.map(({ text }) => text).join("")
);

const noCalls = only([[]], "tool calls are not offered");

const message = z.strictObject({
  role: z.enum(["system", "developer", "user", "assistant", "tool"]),
  content,
  name: text.max(256).nullish(),
  tool_call_id: text.max(256).nullish(),
  tool_calls: noCalls,
  function_call: noCalls,
  audio: only([], "messages are plain text"),
  // Clients send an answer's message back with these.
  refusal: only([""], "messages are plain text"),
  annotations: only([[]], "messages are plain text"),
}).transform(({ role, content, name, tool_call_id }) => ({
  // Templates of open models know the older name of this role.
  role: role === "developer" ? "system" : role,
  content,
  ...(name ? { name } : {}),
  ...(tool_call_id ? { tool_call_id } : {}),
}));

export const chatMessages = z.array(message).min(1).max(4_096);

export const chatSchema = z.strictObject({
  ...commonFields,
  messages: chatMessages,
  max_completion_tokens: commonFields.max_tokens,
  logprobs: z.boolean().nullish().transform((value) => value ?? false),
  top_logprobs: z.int().min(0).max(20).nullish(),
  chat_template: only([], "the model's own template is used"),
  chat_template_kwargs: only([{}], "the model's own template is used"),
  add_generation_prompt: only([true], "the model always answers"),
  continue_final_message: only([false], "the model always answers"),
}).superRefine((body, context) => {
  checkStreamOptions(body, context);
  if (typeof body.top_logprobs === "number" && !body.logprobs) {
    context.addIssue({
      code: "custom",
      path: ["top_logprobs"],
      message: "needs logprobs to be true",
    });
  }
  const { max_tokens: old, max_completion_tokens: max } = body;
  if (old !== undefined && max !== undefined && old !== max) {
    context.addIssue({
      code: "custom",
      path: ["max_tokens"],
      message: `contradicts max_completion_tokens: ${old} and ${max}`,
    });
  }
});

export type ChatBody = z.output<typeof chatSchema>;

export function chatInput(body: ChatBody): GenerationInput {
  const max_tokens = body.max_completion_tokens ?? body.max_tokens;
  return {
    model: body.model,
    prompt: { kind: "chat", messages: body.messages },
    sampling: { ...body, max_tokens },
    topLogprobs: body.logprobs ? body.top_logprobs ?? 0 : undefined,
    tenant: body.user,
  };
}

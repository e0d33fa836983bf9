import { z } from "zod";
import type { GenerateRequest } from "../../../proto/gen/quetzal/v1/inference.ts";
import {
  check,
  type GenerationInput,
  samplingFields,
  text,
  tokenIds,
} from "../core/mod.ts";

const fields = z.object({
  ...samplingFields,
  model: text.max(256),
  tenant: text.max(256),
  top_logprobs: z.int().min(0).max(20).optional(),
});

const message = z.object({
  role: z.enum(["system", "user", "assistant", "tool"]),
  content: text,
});

const prompts = {
  prompt: z.object({ prompt: text }),
  chat: z.object({
    chat: z.object({ messages: z.array(message).min(1).max(4_096) }),
  }),
  tokens: z.object({ tokens: z.object({ ids: tokenIds }) }),
};

/**
 * The proto's request under the names and rules that HTTP has too. Absent scalars
 * arrive as 0, so where 0 means "off" it stays 0 and where it means "not set" it
 * becomes `undefined`.
 */
export function generateInput(request: GenerateRequest): GenerationInput {
  const { sampling } = request;
  const checked = check(fields, {
    model: request.model,
    tenant: request.tenant,
    temperature: sampling?.temperature ?? 0,
    top_k: sampling?.topK,
    top_p: sampling?.topP,
    min_p: sampling?.minP,
    presence_penalty: sampling?.presencePenalty,
    frequency_penalty: sampling?.frequencyPenalty,
    repetition_penalty: sampling?.repetitionPenalty,
    logit_bias: sampling?.logitBias,
    seed: request.seed ?? (sampling?.seed || undefined),
    stop: request.stop,
    stop_token_ids: sampling?.stopTokenIds,
    ignore_eos: sampling?.ignoreEos,
    min_tokens: sampling?.minTokens,
    max_tokens: request.maxTokens === 0 ? undefined : request.maxTokens,
    top_logprobs: sampling?.topLogprobs,
  });
  return {
    model: checked.model,
    prompt: promptOf(request.input),
    sampling: checked,
    topLogprobs: checked.top_logprobs,
    tenant: checked.tenant,
  };
}

function promptOf(input: GenerateRequest["input"]): GenerationInput["prompt"] {
  switch (input?.$case) {
    case "prompt":
      return {
        kind: "text",
        text: check(prompts.prompt, { prompt: input.value }).prompt,
      };
    case "chat":
      return {
        kind: "chat",
        messages: check(prompts.chat, { chat: input.value }).chat.messages,
      };
    case "tokens":
      return {
        kind: "ids",
        ids: check(prompts.tokens, { tokens: input.value }).tokens.ids,
      };
    case undefined:
      return { kind: "text", text: check(prompts.prompt, {}).prompt };
  }
}

import { randomBytes } from "node:crypto";
import { Code } from "../../../lib/errors/mesh_error.ts";
import type { SamplingParams } from "../../../proto/gen/quetzal/v1/common.ts";
import {
  checkedIds,
  type EncodeBounds,
  encodeChat,
  encodeIds,
  encodeText,
} from "./encode.ts";
import type { GenerationRequest } from "./generation.ts";
import type {
  GenerationInput,
  PromptInput,
  SamplingFields,
} from "./generation_input.ts";
import type { ServedModel } from "./model_catalog.ts";
import { RequestError } from "./request_error.ts";

export interface PrepareOptions {
  readonly requestId: string;
  readonly model: ServedModel;
  /** Tokens that prompt and answer may have together on the workers there are. */
  readonly contextLength: number;
}

/** Template, tokenize and fit: from checked fields to ids and numbers. */
export function prepare(
  input: GenerationInput,
  options: PrepareOptions,
): GenerationRequest {
  const { requestId, model, contextLength } = options;
  const promptIds = encodePrompt(input.prompt, options);
  return {
    requestId,
    operation: input.prompt.kind === "chat" ? "chat" : "textCompletion",
    model,
    promptIds,
    sampling: samplingParams(input, model),
    maxTokens: fitTokens({
      promptTokens: promptIds.length,
      wanted: input.sampling.max_tokens,
      contextLength,
      field: fieldOf(input.prompt),
    }),
    stop: input.sampling.stop ?? [],
    showSpecial: input.sampling.skip_special_tokens === false,
    tenant: input.tenant,
  };
}

function encodePrompt(
  prompt: PromptInput,
  { model, contextLength }: PrepareOptions,
): Int32Array {
  const bounds = { contextLength, field: fieldOf(prompt) };
  const ids = promptIds(prompt, model, bounds);
  if (ids.length === 0) {
    throw new RequestError(
      Code.invalidArgument,
      "Cannot continue an empty prompt",
      { field: bounds.field, reason: "invalid_value" },
    );
  }
  return ids;
}

function promptIds(
  prompt: PromptInput,
  model: ServedModel,
  bounds: EncodeBounds,
): Int32Array {
  switch (prompt.kind) {
    case "text":
      return encodeText(prompt.text, model, bounds);
    case "ids":
      return encodeIds(prompt.ids, model, bounds);
    case "chat":
      return encodeChat(prompt.messages, model, bounds);
  }
}

function samplingParams(
  input: GenerationInput,
  model: ServedModel,
): SamplingParams {
  const { sampling: fields, topLogprobs } = input;
  const logitBias = fields.logit_bias ?? {};
  checkedIds(Object.keys(logitBias).map(Number), model, "logit_bias");
  checkedIds(fields.stop_token_ids ?? [], model, "stop_token_ids");
  return {
    temperature: fields.temperature ?? 1,
    // vLLM writes -1 for "all".
    topK: Math.max(0, fields.top_k ?? 0),
    topP: fields.top_p,
    minP: fields.min_p ?? 0,
    seed: seedOf(fields),
    presencePenalty: fields.presence_penalty ?? 0,
    frequencyPenalty: fields.frequency_penalty ?? 0,
    repetitionPenalty: fields.repetition_penalty,
    logitBias,
    stopTokenIds: fields.stop_token_ids ?? [],
    ignoreEos: fields.ignore_eos ?? false,
    minTokens: fields.min_tokens ?? 0,
    topLogprobs,
  };
}

/** Drawn here once when absent: a replay on another worker must draw the same tokens. */
function seedOf({ seed }: SamplingFields): bigint {
  if (seed === undefined) return randomBytes(8).readBigUInt64LE();
  return BigInt.asUintN(64, BigInt(seed));
}

function fitTokens({ promptTokens, wanted, contextLength, field }: {
  promptTokens: number;
  wanted: number | undefined;
  contextLength: number;
  field: string;
}): number {
  const left = contextLength - promptTokens;
  if (left >= (wanted ?? 1)) return wanted ?? left;
  const needs = wanted === undefined
    ? `${promptTokens} tokens of prompt and at least 1 of answer`
    : `${promptTokens} tokens of prompt and ${wanted} of answer (max_tokens)`;
  throw new RequestError(
    Code.invalidArgument,
    `Cannot fit the request: ${needs}, the context length is ${contextLength} tokens`,
    {
      field: left >= 1 ? "max_tokens" : field,
      reason: "context_length_exceeded",
    },
  );
}

function fieldOf(prompt: PromptInput): string {
  return prompt.kind === "chat" ? "messages" : "prompt";
}

import { isDeepStrictEqual } from "node:util";
import { z } from "zod";

/**
 * OpenAI's and vLLM's fields that we do not act on. A field that cannot change
 * the answer is accepted; one that asks for something we do not do is accepted
 * only with a value that asks for nothing. Any other field is unknown and refused.
 */

const anything = z.unknown().optional();

/** Bookkeeping and hints: the answer is the same without them. */
export const harmlessFields = {
  metadata: anything,
  store: anything,
  service_tier: anything,
  parallel_tool_calls: anything,
  reasoning_effort: anything,
  verbosity: anything,
  prediction: anything,
  safety_identifier: anything,
  prompt_cache_key: anything,
  prompt_cache_retention: anything,
} as const;

/** Accepts `undefined`, `null` and the listed values, refuses the rest with `why`. */
export function only(values: readonly unknown[], why: string) {
  return z.unknown().optional().refine(
    (value) =>
      value === undefined || value === null ||
      values.some((one) => isDeepStrictEqual(one, value)),
    { error: `is not supported: ${why}`, params: { unsupported: true } },
  );
}

/** Fields of both completion endpoints that would change the answer. */
export const unsupportedFields = {
  tools: only([[]], "tool calls are not offered"),
  tool_choice: only(["none", "auto"], "tool calls are not offered"),
  functions: only([[]], "function calls are not offered"),
  function_call: only(["none", "auto"], "function calls are not offered"),
  response_format: only([{ type: "text" }], "answers are plain text"),
  structured_outputs: only([{}], "answers are plain text"),
  modalities: only([["text"]], "answers are plain text"),
  audio: only([], "answers are plain text"),
  web_search_options: only([], "there is no web search"),
  use_beam_search: only([false], "sequences are sampled one by one"),
  length_penalty: only([1], "sequences are sampled one by one"),
  prompt_logprobs: only([], "log-probabilities cover the answer only"),
  include_stop_str_in_output: only([false], "text ends before the stop string"),
} as const;

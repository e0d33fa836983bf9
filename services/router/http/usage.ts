import type { GenerationResult } from "../core/mod.ts";

/** OpenAI's usage: each prompt counts once, every answer to it counts. */
export function usageOf(perPrompt: readonly (readonly GenerationResult[])[]) {
  const sum = (values: readonly number[]) =>
    values.reduce((total, value) => total + value, 0);
  const prompt = sum(perPrompt.map(([first]) => first?.promptTokens ?? 0));
  const cached = sum(perPrompt.map(([first]) => first?.cachedTokens ?? 0));
  const completion = sum(
    perPrompt.flat().map(({ completionTokens }) => completionTokens),
  );
  return {
    prompt_tokens: prompt,
    completion_tokens: completion,
    total_tokens: prompt + completion,
    prompt_tokens_details: { cached_tokens: cached },
  };
}

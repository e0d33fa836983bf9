import type { Generator } from "./generator.ts";

export interface StreamTiming {
  readonly ttftMs: number;
  /** Mean time between tokens behind the first. */
  readonly tokenMs: number;
  readonly tokens: number;
}

export async function timeStream(
  generator: Generator,
  promptIds: Int32Array,
  maxTokens: number,
): Promise<StreamTiming> {
  const start = performance.now();
  let first = 0;
  let last = 0;
  let tokens = 0;
  for await (const count of generator.generate(promptIds, maxTokens)) {
    last = performance.now();
    if (tokens === 0) first = last;
    tokens += count;
  }
  if (tokens !== maxTokens) {
    throw new Error(`Cannot time: needs ${maxTokens} tokens, found ${tokens}`);
  }
  return {
    ttftMs: first - start,
    tokenMs: (last - first) / (tokens - 1),
    tokens,
  };
}

/** Tokens per second of `streams` concurrent streams, from first call to last token. */
export async function timeThroughput(
  generator: Generator,
  { streams, promptTokens, maxTokens }: {
    streams: number;
    promptTokens: number;
    maxTokens: number;
  },
): Promise<number> {
  const prompts = Array.from(
    { length: streams },
    () => freshPrompt(promptTokens),
  );
  const start = performance.now();
  const timings = await Promise.all(
    prompts.map((prompt) => timeStream(generator, prompt, maxTokens)),
  );
  const tokens = timings.reduce((sum, timing) => sum + timing.tokens, 0);
  return tokens / (performance.now() - start) * 1_000;
}

let state = 12345;

/** Random ids, different each time: no prefix cache may help. */
export function freshPrompt(tokens: number): Int32Array {
  return Int32Array.from({ length: tokens }, () => {
    state = (Math.imul(state, 1103515245) + 12345) & 0x7fffffff;
    return 300 + (state >> 8) % 3_000;
  });
}

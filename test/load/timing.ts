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
  requireAll(tokens, maxTokens);
  return {
    ttftMs: first - start,
    tokenMs: (last - first) / (tokens - 1),
    tokens,
  };
}

/** A stream that was cut short is no fast one. */
function requireAll(tokens: number, maxTokens: number): void {
  if (tokens === maxTokens) return;
  throw new Error(`Cannot time: needs ${maxTokens} tokens, found ${tokens}`);
}

export interface Load {
  readonly streams: number;
  readonly promptTokens: number;
  readonly maxTokens: number;
  /** How long streams are kept up; the first half second does not count. */
  readonly seconds: number;
}

/**
 * Tokens per second that `streams` clients get together which ask again as soon as they
 * have their answer, while all of them are at it.
 */
export async function timeThroughput(
  generator: Generator,
  { streams, promptTokens, maxTokens, seconds }: Load,
): Promise<number> {
  const countFromMs = performance.now() + 500;
  const endMs = countFromMs + seconds * 1_000;
  let inTime = 0;
  const client = async () => {
    while (performance.now() < endMs) {
      const prompt = freshPrompt(promptTokens);
      let tokens = 0;
      for await (const count of generator.generate(prompt, maxTokens)) {
        const nowMs = performance.now();
        tokens += count;
        if (nowMs >= countFromMs && nowMs < endMs) inTime += count;
      }
      requireAll(tokens, maxTokens);
    }
  };
  await Promise.all(Array.from({ length: streams }, client));
  return inTime / seconds;
}

let state = 12345;

/** Random ids, different each time: no prefix cache may help. */
export function freshPrompt(tokens: number): Int32Array {
  return Int32Array.from({ length: tokens }, () => {
    state = (Math.imul(state, 1103515245) + 12345) & 0x7fffffff;
    return 300 + (state >> 8) % 3_000;
  });
}

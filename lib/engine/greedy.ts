import type { Sampling } from "./types.ts";

/** What costs least: the most likely token, without log-probabilities. */
export const greedy: Sampling = {
  temperature: 0,
  topK: 0,
  topP: 1,
  minP: 0,
  seed: 0n,
  presencePenalty: 0,
  frequencyPenalty: 0,
  repetitionPenalty: 1,
  logitBias: new Map(),
  stopIds: [],
  minTokens: 0,
  topLogprobs: undefined,
};

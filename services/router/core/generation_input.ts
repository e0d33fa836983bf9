import { z } from "zod";

/**
 * What every front door turns its request into, and the only place that checks
 * it. Field names are those of the wire (OpenAI's, where OpenAI has them), so a
 * fault names the field as the caller wrote it.
 */

/** Text that UTF-8 can carry: a lone surrogate would reach the tokenizer as something else. */
export const text = z.string().refine((value) => value.isWellFormed(), {
  error: "must be valid Unicode, found a lone surrogate",
});

const tokenId = z.int().min(0).max(2 ** 31 - 1);

export const tokenIds = z.array(tokenId).min(1);

/** Clients send `null` where they mean "not set". */
function optional<T extends z.ZodType>(schema: T) {
  return schema.nullish().transform((value) => value ?? undefined);
}

/** A token id written as the key of a JSON object. */
const tokenIdKey = z.string().regex(/^\d{1,9}$/, {
  error: "must be a token id",
});

export const stopMax = 16;

const stopText = text.min(1).max(1_024);

/** Fields that steer a generation, in any front door. */
export const samplingFields = {
  temperature: optional(z.number().min(0).max(100)),
  top_p: optional(z.number().gt(0).max(1)),
  top_k: optional(z.int().min(-1).max(2 ** 31 - 1)),
  min_p: optional(z.number().min(0).max(1)),
  presence_penalty: optional(z.number().min(-2).max(2)),
  frequency_penalty: optional(z.number().min(-2).max(2)),
  repetition_penalty: optional(z.number().gt(0).max(100)),
  logit_bias: optional(
    z.record(tokenIdKey, z.number().min(-100).max(100)).refine(
      (record) => Object.keys(record).length <= 1_024,
      { error: "must have at most 1024 entries" },
    ),
  ),
  seed: optional(z.union([z.int(), z.bigint()])),
  stop: optional(
    z.union([
      stopText.transform((one) => [one]),
      z.array(stopText).max(stopMax),
    ]),
  ),
  stop_token_ids: optional(z.array(tokenId).max(256)),
  ignore_eos: optional(z.boolean()),
  min_tokens: optional(z.int().min(0).max(2 ** 31 - 1)),
  max_tokens: optional(z.int().min(1).max(2 ** 31 - 1)),
  skip_special_tokens: optional(z.boolean()),
} as const;

const sampling = z.object(samplingFields);

export type SamplingFields = z.output<typeof sampling>;

/** What the model is asked to continue. */
export type PromptInput =
  | { readonly kind: "text"; readonly text: string }
  | { readonly kind: "chat"; readonly messages: readonly ChatInputMessage[] }
  | { readonly kind: "ids"; readonly ids: readonly number[] };

export interface ChatInputMessage {
  readonly role: string;
  readonly content: string;
  readonly [key: string]: unknown;
}

export interface GenerationInput {
  readonly model: string;
  readonly prompt: PromptInput;
  readonly sampling: SamplingFields;
  /** Alternatives to report with each token; absent: no log-probabilities. */
  readonly topLogprobs: number | undefined;
  readonly tenant: string;
}

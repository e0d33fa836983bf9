import type { PromptInput } from "./generation_input.ts";
import type { ServedModel } from "./model_catalog.ts";

/** What every front door turns a request for embeddings into. */
export interface EmbeddingInput {
  readonly model: string;
  readonly inputs: readonly NamedPrompt[];
  /** Values per vector; only the model's own number is taken. */
  readonly dimensions?: number;
  /** Scales each vector to length 1. */
  readonly normalize: boolean;
  /** How the caller wants the values, for traces. */
  readonly encodingFormat?: string;
  readonly tenant: string;
}

export interface NamedPrompt {
  readonly prompt: Exclude<PromptInput, { kind: "chat" }>;
  /** As the caller wrote it: `input[3]`. */
  readonly field: string;
}

/** Inputs of a request, as many as OpenAI takes. */
export const embeddingInputsMax = 2_048;

/** Checked and tokenized. */
export interface EmbeddingRequest {
  readonly requestId: string;
  readonly model: ServedModel;
  readonly prompts: readonly Int32Array[];
  readonly normalize: boolean;
  readonly encodingFormat: string | undefined;
  readonly tenant: string;
}

export interface EmbeddingResult {
  /** In the order of the prompts. */
  readonly vectors: readonly (readonly number[])[];
  readonly promptTokens: number;
  /** Prompt tokens whose KV was found in a prefix cache. */
  readonly cachedTokens: number;
}

import type { Attributes } from "@opentelemetry/api";

/**
 * Attribute names of our spans.
 *
 * `gen_ai.*` are OpenTelemetry's semantic conventions for generative AI, written out here because
 * the package exports them only under `incubating`, a module of 16,000 lines that may rename
 * them in a minor release; a test compares the two. `quetzal.*` are ours.
 */
export const Keys = {
  operationName: "gen_ai.operation.name",
  providerName: "gen_ai.provider.name",
  requestModel: "gen_ai.request.model",
  requestMaxTokens: "gen_ai.request.max_tokens",
  requestTemperature: "gen_ai.request.temperature",
  requestTopP: "gen_ai.request.top_p",
  requestTopK: "gen_ai.request.top_k",
  requestSeed: "gen_ai.request.seed",
  requestStopSequences: "gen_ai.request.stop_sequences",
  requestFrequencyPenalty: "gen_ai.request.frequency_penalty",
  requestPresencePenalty: "gen_ai.request.presence_penalty",
  requestChoiceCount: "gen_ai.request.choice.count",
  requestStream: "gen_ai.request.stream",
  requestEncodingFormats: "gen_ai.request.encoding_formats",
  embeddingsDimensionCount: "gen_ai.embeddings.dimension.count",
  responseId: "gen_ai.response.id",
  responseModel: "gen_ai.response.model",
  responseFinishReasons: "gen_ai.response.finish_reasons",
  /** Seconds. */
  responseTimeToFirstChunk: "gen_ai.response.time_to_first_chunk",
  usageInputTokens: "gen_ai.usage.input_tokens",
  usageOutputTokens: "gen_ai.usage.output_tokens",
  usageCachedInputTokens: "gen_ai.usage.cache_read.input_tokens",
  outputType: "gen_ai.output.type",
  inputMessages: "gen_ai.input.messages",
  outputMessages: "gen_ai.output.messages",
  errorType: "error.type",
  serverAddress: "server.address",

  sequenceId: "quetzal.sequence.id",
  tenant: "quetzal.tenant",
  workerId: "quetzal.worker.id",
  workerRole: "quetzal.worker.role",
  routingPolicy: "quetzal.routing.policy",
  routingAttempt: "quetzal.routing.attempt",
  queueWaitMs: "quetzal.queue.wait_ms",
  batchSize: "quetzal.batch.size",
  blockCount: "quetzal.block.count",
  cachedBlockCount: "quetzal.block.cached_count",
  kvBytes: "quetzal.kv.bytes",
  draftTokens: "quetzal.draft.tokens",
  acceptedTokens: "quetzal.draft.accepted_tokens",
  stepIndex: "quetzal.step.index",
  stepCount: "quetzal.step.count",
  stepEventsLeftOut: "quetzal.step.events_left_out",
  /** Packed columns, see `token_columns.ts`: steps apart by commas, a letter per token. */
  tokenProvenance: "quetzal.token.provenance",
  /** Since the step before, per step; the first one's: since the start of the span. */
  tokenGapsUs: "quetzal.token.gaps_us",
  tokenBatchSizes: "quetzal.token.batch_sizes",
  tokenStepUs: "quetzal.token.step_us",
  tokenIds: "quetzal.token.ids",
  /** A JSON array of strings. */
  tokenTexts: "quetzal.token.texts",
} as const;

export const GenAiOperation = {
  chat: "chat",
  textCompletion: "text_completion",
  embeddings: "embeddings",
} as const;

/** Value of `gen_ai.provider.name`. */
export const providerName = "quetzal";

export interface GenAiContent {
  /** Set by the operator: prompts and answers are other people's text. */
  readonly captureContent: boolean;
  readonly input?: unknown;
  readonly output?: unknown;
}

/** Attributes with prompt and answer, or none at all unless the operator wants them. */
export function contentAttributes(
  { captureContent, input, output }: GenAiContent,
): Attributes {
  if (!captureContent) return {};
  return {
    ...(input === undefined
      ? {}
      : { [Keys.inputMessages]: JSON.stringify(input) }),
    ...(output === undefined
      ? {}
      : { [Keys.outputMessages]: JSON.stringify(output) }),
  };
}

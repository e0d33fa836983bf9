import type {
  SamplingParams,
  Token,
} from "../../../proto/gen/quetzal/v1/common.ts";
import type { OutputDelta } from "./output_text.ts";
import type { ServedModel } from "./model_catalog.ts";

/** One sequence to generate: checked, templated, tokenized. */
export interface GenerationRequest {
  readonly requestId: string;
  /** What the caller asked for, in the words of traces. */
  readonly operation: "chat" | "textCompletion";
  readonly model: ServedModel;
  readonly promptIds: Int32Array;
  /** With the seed drawn, so that a replay agrees with the first run. */
  readonly sampling: SamplingParams;
  /** Answer tokens at most, at least 1; with the prompt it fits the context. */
  readonly maxTokens: number;
  readonly stop: readonly string[];
  /** Control tokens appear in the text. */
  readonly showSpecial: boolean;
  readonly tenant: string;
}

export type AnswerDelta = OutputDelta<Token>;

/** Where an answer goes while it is generated. */
export interface GenerationSink {
  /**
   * Takes the next piece. `undefined`: go on at once; a promise: the client reads
   * slowly, wait for it. The piece is reused after that, so keep no reference.
   */
  write(delta: AnswerDelta): Promise<void> | undefined;
}

/** How a generation ended well. */
export interface GenerationResult {
  readonly reason: "stop" | "length";
  /** The stop string that ended it. */
  readonly stop: string | undefined;
  readonly promptTokens: number;
  readonly completionTokens: number;
  /** Prompt tokens whose KV was found in a prefix cache. */
  readonly cachedTokens: number;
  /** Decode calls it took; more than one means that workers failed. */
  readonly attempts: number;
}

import type {
  EmbedResult,
  PrefillResult,
  SequenceEvent,
} from "../engine/types.ts";

/** What the services tell about their work; `metrics.ts` makes numbers of it. */
export interface WorkerObserver {
  /** Something a person may have to look at. */
  warn(message: string, details: Readonly<Record<string, unknown>>): void;
  /** Ask once per sequence, not per token. */
  forModel(model: string): ModelObserver;
}

export interface ModelObserver {
  /** Each event of each sequence that is decoded here. */
  sequenceEvent(event: SequenceEvent): void;
  /** A prompt that was run for another worker. */
  promptDone(result: PrefillResult): void;
  /** A prompt that became a vector. */
  embedded(result: EmbedResult): void;
  /** A KV transfer ended early; what it lacks is computed here. */
  kvTransferFailed(reason: string): void;
  kvTransferred(bytes: number): void;
}

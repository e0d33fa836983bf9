import type { Span } from "@opentelemetry/api";
import type { SequenceEvent } from "../../lib/engine/types.ts";
import {
  createStepEvents,
  Keys,
  type StepEvents,
} from "../../lib/telemetry/mod.ts";

/** Writes what a sequence goes through onto its span; nearly free when nobody records. */
export class SequenceTrace implements Disposable {
  readonly #span: Span;
  readonly #isRecording: boolean;
  readonly #steps: StepEvents;
  #tokens = 0;

  constructor(span: Span) {
    this.#span = span;
    this.#isRecording = span.isRecording();
    this.#steps = createStepEvents(span);
  }

  add(event: SequenceEvent): void {
    if (!this.#isRecording) return;
    switch (event.kind) {
      case "tokens":
        this.#tokens += event.tokens.length;
        this.#steps.add({
          [Keys.batchSize]: event.batchSize,
          "quetzal.step.us": event.stepUs,
        });
        return;
      case "started":
        this.#span.setAttributes({
          [Keys.queueWaitMs]: event.queueUs / 1_000,
          "quetzal.prefill_ms": event.prefillUs / 1_000,
          [Keys.usageCachedInputTokens]: event.cachedTokens,
          "quetzal.transferred_tokens": event.transferredTokens,
          "quetzal.computed_tokens": event.computedTokens,
        });
        this.#span.addEvent("prompt complete");
        return;
      case "finished":
        this.#span.setAttributes({
          [Keys.responseFinishReasons]: [event.reason],
          "quetzal.preemptions": event.preemptions,
        });
    }
  }

  [Symbol.dispose](): void {
    if (!this.#isRecording) return;
    this.#steps.flush();
    this.#span.setAttribute(Keys.usageOutputTokens, this.#tokens);
  }
}

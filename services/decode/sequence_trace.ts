import type { Tracer } from "@opentelemetry/api";
import type { SequenceEvent } from "../../lib/engine/types.ts";
import {
  createStepEvents,
  Keys,
  type OpenSpan,
  type StepEvents,
} from "../../lib/telemetry/mod.ts";

/** Writes what a sequence goes through onto its span; nearly free when nobody records. */
export class SequenceTrace implements Disposable {
  readonly #open: OpenSpan;
  readonly #tracer: Tracer;
  readonly #isRecording: boolean;
  readonly #steps: StepEvents;
  readonly #startMs = Date.now();
  #tokens = 0;

  constructor(open: OpenSpan, tracer: Tracer) {
    this.#open = open;
    this.#tracer = tracer;
    this.#isRecording = open.span.isRecording();
    // The router's span holds every token; here a sample says how the worker saw it.
    this.#steps = createStepEvents(open.span, { eventsMax: 8 });
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
        this.#open.span.setAttributes({
          [Keys.queueWaitMs]: event.queueUs / 1_000,
          "quetzal.prefill_ms": event.prefillUs / 1_000,
          [Keys.usageCachedInputTokens]: event.cachedTokens,
          "quetzal.transferred_tokens": event.transferredTokens,
          "quetzal.computed_tokens": event.computedTokens,
        });
        this.#open.span.addEvent("prompt complete");
        this.#traceQueue(event.queueUs);
        return;
      case "finished":
        this.#open.span.setAttributes({
          [Keys.responseFinishReasons]: [event.reason],
          "quetzal.preemptions": event.preemptions,
        });
    }
  }

  /** A span of its own, told afterwards: waiting is what people look for first. */
  #traceQueue(queueUs: number): void {
    this.#tracer
      .startSpan(
        "decode.queue",
        { startTime: this.#startMs },
        this.#open.context,
      )
      .end(this.#startMs + queueUs / 1_000);
  }

  [Symbol.dispose](): void {
    if (!this.#isRecording) return;
    this.#steps.flush();
    this.#open.span.setAttribute(Keys.usageOutputTokens, this.#tokens);
  }
}

import { type Span, SpanStatusCode } from "@opentelemetry/api";
import type { SequenceEvent } from "../../lib/engine/types.ts";
import { MeshError } from "../../lib/errors/mesh_error.ts";

/** Steps that share one span event, and most such events of a span. */
const stepsPerEvent = 32;
const eventsMax = 128;

/** Writes what a sequence goes through onto its span. */
export class SequenceTrace {
  readonly #span: Span;
  readonly #recording: boolean;
  #tokens = 0;
  #events = 0;
  #steps = 0;
  #stepUs = 0;
  #batchSum = 0;

  constructor(span: Span) {
    this.#span = span;
    this.#recording = span.isRecording();
  }

  add(event: SequenceEvent): void {
    if (!this.#recording) return;
    switch (event.kind) {
      case "tokens":
        this.#tokens += event.tokens.length;
        this.#stepUs += event.stepUs;
        this.#batchSum += event.batchSize;
        if (++this.#steps === stepsPerEvent) this.#flushSteps();
        return;
      case "started":
        this.#span.setAttributes({
          "quetzal.queue_us": event.queueUs,
          "quetzal.prefill_us": event.prefillUs,
          "quetzal.cached_tokens": event.cachedTokens,
          "quetzal.transferred_tokens": event.transferredTokens,
          "quetzal.computed_tokens": event.computedTokens,
        });
        this.#span.addEvent("quetzal.started");
        return;
      case "finished":
        this.#span.setAttributes({
          "gen_ai.response.finish_reasons": [event.reason],
          "quetzal.preemptions": event.preemptions,
        });
    }
  }

  failed(reason: unknown): void {
    const { code, message } = MeshError.from(reason);
    this.#span.setStatus({ code: SpanStatusCode.ERROR, message });
    this.#span.setAttribute("quetzal.error_code", code);
  }

  end(): void {
    this.#flushSteps();
    this.#span.setAttribute("gen_ai.usage.output_tokens", this.#tokens);
    this.#span.end();
  }

  #flushSteps(): void {
    if (this.#steps > 0 && this.#events++ < eventsMax) {
      this.#span.addEvent("quetzal.steps", {
        "quetzal.steps": this.#steps,
        "quetzal.step_us_mean": Math.round(this.#stepUs / this.#steps),
        "quetzal.batch_size_mean": this.#batchSum / this.#steps,
        "quetzal.tokens": this.#tokens,
      });
    }
    this.#steps = this.#stepUs = this.#batchSum = 0;
  }
}

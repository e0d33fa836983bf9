import type { Span } from "@opentelemetry/api";
import { Keys } from "./attributes.ts";

/** "p"lain, draft "a"ccepted, draft "c"orrected, in this order; anything else is unknown. */
export const provenanceLetters = "pac";

export interface TokenStep {
  /** `provenanceLetters` and "?", one per token of the step. */
  readonly provenance: string;
  readonly batchSize: number;
  readonly stepUs: number;
  /** Only when content may be captured: ids can be read by whoever has the vocabulary. */
  readonly ids?: readonly number[];
  readonly texts?: readonly string[];
}

/** Every token of one decode call, on its span. */
export interface TokenColumns {
  add(step: TokenStep): void;
  /** Writes what is left; call before the span ends. */
  flush(): void;
}

/**
 * Packs the tokens of a sequence into events of its span, some hundred at a time.
 *
 * An event per token would cost the request path more than the token's own work: an object with
 * five attributes, each encoded by name. Here a token costs a few array pushes; the columns
 * become short comma separated lists when an event is full. The span holds at most
 * `eventsMax` of them, then the rest of a very long answer is left out.
 */
export function createTokenColumns(
  span: Span,
  { stepsPerEvent = 256, eventsMax = 128 }: {
    stepsPerEvent?: number;
    eventsMax?: number;
  } = {},
): TokenColumns {
  if (!span.isRecording()) return silent;
  let previousMs = performance.now();
  let events = 0;
  let provenance: string[] = [];
  let gapsUs: number[] = [];
  let batchSizes: number[] = [];
  let stepUs: number[] = [];
  let ids: number[] = [];
  let texts: string[] = [];

  function flush(): void {
    if (provenance.length === 0) return;
    span.addEvent("tokens", {
      [Keys.tokenProvenance]: provenance.join(","),
      [Keys.tokenGapsUs]: gapsUs.join(","),
      [Keys.tokenBatchSizes]: batchSizes.join(","),
      [Keys.tokenStepUs]: stepUs.join(","),
      ...(ids.length === 0 ? {} : { [Keys.tokenIds]: ids.join(",") }),
      ...(texts.length === 0
        ? {}
        : { [Keys.tokenTexts]: JSON.stringify(texts) }),
    });
    events++;
    provenance = [];
    gapsUs = [];
    batchSizes = [];
    stepUs = [];
    ids = [];
    texts = [];
  }

  return {
    add(step) {
      const nowMs = performance.now();
      const gapUs = Math.round((nowMs - previousMs) * 1_000);
      previousMs = nowMs;
      if (events >= eventsMax) return;
      provenance.push(step.provenance);
      gapsUs.push(gapUs);
      batchSizes.push(step.batchSize);
      stepUs.push(step.stepUs);
      if (step.ids !== undefined) ids.push(...step.ids);
      if (step.texts !== undefined) texts.push(...step.texts);
      if (provenance.length >= stepsPerEvent) flush();
    },
    flush,
  };
}

const silent: TokenColumns = { add() {}, flush() {} };

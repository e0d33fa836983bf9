import type { Attributes, Span } from "@opentelemetry/api";
import { Keys } from "./attributes.ts";

/** What happened in the steps of one sequence, as events of its span. */
export interface StepEvents {
  /** One step: nearly free when nobody records the span. */
  add(attributes: Attributes): void;
  /** Writes the events into the span; call once, before it ends. */
  flush(): void;
}

/**
 * Keeps at most `eventsMax` events however long the sequence is.
 *
 * Whenever the room is full, every second event goes and from then on only every second, fourth,
 * eighth … step is kept. So the events always cover the whole sequence evenly, where a cut
 * after the first hundred would hide the slow end of a long answer.
 */
export function createStepEvents(
  span: Span,
  { name = "step", eventsMax = 128 }: { name?: string; eventsMax?: number } =
    {},
): StepEvents {
  if (!span.isRecording()) return silent;
  let kept: { attributes: Attributes; atMs: number }[] = [];
  let stride = 1;
  let count = 0;
  return {
    add(attributes) {
      const index = count++;
      if (index % stride !== 0) return;
      if (kept.length === eventsMax) {
        kept = kept.filter((_, i) => i % 2 === 0);
        stride *= 2;
        if (index % stride !== 0) return;
      }
      kept.push({
        attributes: { ...attributes, [Keys.stepIndex]: index },
        atMs: performance.timeOrigin + performance.now(),
      });
    },
    flush() {
      for (const { attributes, atMs } of kept) {
        span.addEvent(name, attributes, atMs);
      }
      span.setAttribute(Keys.stepCount, count);
      span.setAttribute(Keys.stepEventsLeftOut, count - kept.length);
      kept = [];
    },
  };
}

const silent: StepEvents = { add() {}, flush() {} };

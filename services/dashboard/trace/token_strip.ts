import { Keys } from "../../../lib/telemetry/attributes.ts";
import { provenanceLetters } from "../../../lib/telemetry/token_columns.ts";
import type { Provenance, Span, TokenStrip } from "../api_types.ts";
import { numberOf, textOf } from "./attributes_of.ts";
import type { TraceSpans } from "./span_roles.ts";

const provenanceNames: readonly Provenance[] = [
  "plain",
  "accepted",
  "corrected",
  "unknown",
];
const letters: string = provenanceLetters;

/** More would not be read by anybody, and takes the page's memory. */
const tokensMax = 65_536;

/**
 * Unpacks the token columns that the router put on its decode spans: one event holds some
 * hundred tokens, see `lib/telemetry/token_columns.ts`.
 */
export function readTokens(
  { calls, startAtMs, generations }: TraceSpans,
  { captureContent }: { captureContent: boolean },
): TokenStrip | null {
  const columns = new Columns(startAtMs);
  calls.forEach((call, index) => columns.addCall(call, index + 1));
  if (columns.count === 0) return null;
  const outputTokens = generations.reduce(
    (total, { attributes }) =>
      total + (numberOf(attributes, Keys.usageOutputTokens) ?? 0),
    0,
  );
  const { offsetMs, latencyMs, provenance, step, batchSize } = columns;
  const { stepMs, attempt, ids, texts } = columns;
  const { count } = columns;
  return {
    count,
    offsetMs,
    latencyMs,
    provenance,
    provenanceNames,
    step,
    batchSize,
    stepMs,
    attempt,
    ids: captureContent && ids.length === count ? ids : null,
    texts: captureContent && texts.length === count ? texts : null,
    complete: count >= outputTokens,
  };
}

class Columns {
  readonly offsetMs: number[] = [];
  readonly latencyMs: number[] = [];
  readonly provenance: number[] = [];
  readonly step: number[] = [];
  readonly batchSize: number[] = [];
  readonly stepMs: number[] = [];
  readonly attempt: number[] = [];
  readonly ids: number[] = [];
  readonly texts: string[] = [];
  readonly #startAtMs: number;
  #steps = 0;

  constructor(startAtMs: number) {
    this.#startAtMs = startAtMs;
  }

  get count(): number {
    return this.offsetMs.length;
  }

  addCall(call: Span, attempt: number): void {
    let atMs = call.startAtMs - this.#startAtMs;
    for (const { name, attributes } of call.events) {
      if (name !== "tokens") continue;
      const steps = textOf(attributes, Keys.tokenProvenance)?.split(",") ?? [];
      const gaps = numbers(textOf(attributes, Keys.tokenGapsUs));
      const sizes = numbers(textOf(attributes, Keys.tokenBatchSizes));
      const lengths = numbers(textOf(attributes, Keys.tokenStepUs));
      steps.forEach((tokens, i) => {
        const gapMs = (gaps[i] ?? 0) / 1_000;
        atMs += gapMs;
        for (let t = 0; t < tokens.length; t++) {
          if (this.count >= tokensMax) return;
          this.offsetMs.push(round(atMs));
          this.latencyMs.push(t === 0 ? round(gapMs) : 0);
          this.provenance.push(provenanceOf(tokens[t]));
          this.step.push(this.#steps);
          this.batchSize.push(sizes[i] ?? 0);
          this.stepMs.push(round((lengths[i] ?? 0) / 1_000));
          this.attempt.push(attempt);
        }
        this.#steps++;
      });
      this.ids.push(...numbers(textOf(attributes, Keys.tokenIds)));
      this.texts.push(...strings(textOf(attributes, Keys.tokenTexts)));
    }
  }
}

function provenanceOf(letter: string): number {
  const index = letters.indexOf(letter);
  return index < 0 ? provenanceNames.indexOf("unknown") : index;
}

function numbers(list: string | null): number[] {
  if (list === null) return [];
  return list.split(",").map((entry) => {
    const value = Number(entry);
    return Number.isFinite(value) ? value : 0;
  });
}

function strings(json: string | null): string[] {
  if (json === null) return [];
  try {
    const list: unknown = JSON.parse(json);
    return Array.isArray(list) ? list.map(String) : [];
  } catch {
    // Cut at the length limit of an attribute: the strip goes on without texts.
    return [];
  }
}

/** Microseconds are all there is, and a third of the digits. */
function round(ms: number): number {
  return Math.round(ms * 1_000) / 1_000;
}

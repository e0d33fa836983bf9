import type { PhaseName, Span, TraceDetail } from "../../../api_types.ts";

/** Colour of a bar: what the time was spent on. */
export type Tone = PhaseName | "other";

export const phaseLabels: Readonly<Record<PhaseName, string>> = {
  route: "Route",
  tokenize: "Tokenize",
  queue: "Queue",
  prefill: "Prefill",
  kv_transfer: "KV transfer",
  decode: "Decode",
};

/** By phase where the service named one, else by the span's name. */
export function tonesOf(detail: TraceDetail): (span: Span) => Tone {
  const bySpan = new Map<string, Tone>(
    detail.phases.map((phase) => [phase.spanId, phase.name]),
  );
  for (const run of detail.prefills) {
    if (run.where === "prefill") bySpan.set(run.spanId, "prefill");
  }
  for (const run of detail.decodes) bySpan.set(run.spanId, "decode");
  for (const transfer of detail.transfers) {
    bySpan.set(transfer.spanId, "kv_transfer");
  }
  return (span) => {
    const known = bySpan.get(span.spanId);
    if (known) return known;
    const found = byName.find(([pattern]) => pattern.test(span.name));
    return found ? found[1] : "other";
  };
}

const byName: readonly (readonly [RegExp, Tone])[] = [
  [/queue/i, "queue"],
  [/kv/i, "kv_transfer"],
  [/prefill/i, "prefill"],
  [/route/i, "route"],
  [/token/i, "tokenize"],
  [/decode/i, "decode"],
];

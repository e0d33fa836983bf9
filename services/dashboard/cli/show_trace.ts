import type { Span, TokenStrip, TraceDetail } from "../api_types.ts";
import { bytes, count, harmless, ms, textTable } from "./text_table.ts";

/** One trace as text: what the page shows, from top to bottom. */
export function showTrace(detail: TraceDetail): string {
  const { summary, routes, transfers, tokens, spans } = detail;
  const parts = [
    headline(detail),
    textTable(detail.phases, [
      { title: "phase", of: ({ name }) => name },
      {
        title: "after",
        of: (phase) => ms(phase.startAtMs - summary.startAtMs),
        right: true,
      },
      { title: "took", of: ({ durationMs }) => ms(durationMs), right: true },
    ]),
    ...routes.map((route) =>
      `route ${route.attempt} by ${harmless(route.policy ?? "?")}\n` +
      textTable(route.candidates, [
        { title: "", of: ({ chosen }) => chosen ? "→" : " " },
        { title: "role", of: ({ role }) => role },
        { title: "worker", of: ({ workerId }) => workerId },
        { title: "score", of: ({ score }) => count(score), right: true },
        { title: "load", of: ({ load }) => count(load), right: true },
        {
          title: "matched",
          of: ({ matchedTokens }) => `${matchedTokens}`,
          right: true,
        },
      ])
    ),
    ...transfers.map((transfer) =>
      `KV ${bytes(transfer.bytes)} in ${transfer.blocks} blocks from ` +
      `${harmless(transfer.workerId ?? transfer.from ?? "?")}` +
      (transfer.bytesPerS === null ? "" : `, ${bytes(transfer.bytesPerS)}/s`) +
      (transfer.failure === null ? "" : `; ${harmless(transfer.failure)}`)
    ),
    tokens === null ? "" : tokenLine(tokens),
    waterfall(spans, summary.startAtMs, summary.durationMs),
  ];
  return `${parts.filter((part) => part !== "").join("\n\n")}\n`;
}

function headline({ summary }: TraceDetail): string {
  const { traceId, name, status, error, model, durationMs } = summary;
  return [
    `${traceId}  ${harmless(name)}`,
    `${status}${error === null ? "" : `: ${harmless(error)}`}`,
    `${harmless(model ?? "no model")}, ${ms(durationMs)}, first token ${
      ms(summary.ttftMs)
    }, ${count(summary.promptTokens)} + ${count(summary.outputTokens)} tokens`,
  ].join("\n");
}

function tokenLine(
  { count, latencyMs, provenance, provenanceNames }: TokenStrip,
) {
  const sorted = latencyMs.slice(1).toSorted((a, b) => a - b);
  const kinds = provenanceNames
    .map((name, i) => [name, provenance.filter((p) => p === i).length] as const)
    .filter(([, n]) => n > 0).map(([name, n]) => `${n} ${name}`);
  const at = (share: number) =>
    ms(sorted[Math.floor(share * (sorted.length - 1))] ?? null);
  return `${count} tokens (${kinds.join(", ")}), between them ` +
    `p50 ${at(0.5)}, p99 ${at(0.99)}, max ${at(1)}`;
}

const barWidth = 32;

function waterfall(
  spans: readonly Span[],
  startAtMs: number,
  durationMs: number,
): string {
  const depths = new Map<string, number>();
  for (const { spanId, parentSpanId } of spans) {
    depths.set(
      spanId,
      Math.min(12, (depths.get(parentSpanId ?? "") ?? -1) + 1),
    );
  }
  const scale = barWidth / Math.max(durationMs, 0.001);
  return textTable(spans, [
    {
      title: "span",
      of: (span) => `${"  ".repeat(depths.get(span.spanId)!)}${span.name}`,
      max: 60,
    },
    { title: "service", of: ({ service }) => service },
    { title: "took", of: (span) => ms(span.durationMs), right: true },
    {
      title: "",
      of(span) {
        const from = Math.min(
          barWidth - 1,
          Math.max(0, Math.floor((span.startAtMs - startAtMs) * scale)),
        );
        const width = Math.max(1, Math.round(span.durationMs * scale));
        return " ".repeat(from) + "█".repeat(Math.min(width, barWidth - from));
      },
    },
  ]);
}

/** @jsxImportSource preact */
import { useMemo } from "preact/hooks";
import type { TraceContent, TraceDetail } from "../../../api_types.ts";
import { query } from "../navigation/address.ts";
import { Foreign } from "../parts/foreign.tsx";
import { Section } from "../parts/small.tsx";
import { PhaseBar } from "./phase_bar.tsx";
import { RouteCard } from "./route_card.tsx";
import { windowOf, zoomBy, zoomTo } from "./time_window.ts";
import { TokenStrip } from "./token_strip.tsx";
import { Waterfall } from "./waterfall.tsx";
import { DecodeCard, PrefillCard, TransferCard } from "./work_cards.tsx";

/** Everything of one trace below its head; the playground shows the same. */
export function TraceView({ detail }: { detail: TraceDetail }) {
  const totalMs = spanOfTime(detail);
  const zoom = query.value.get("zoom");
  const window = useMemo(() => windowOf(totalMs), [zoom, totalMs]);
  return (
    <>
      <Section
        title="Where the time went"
        aside={
          <span class="zoom" role="group" aria-label="Zoom">
            <button
              type="button"
              class="button small"
              onClick={() => zoomBy(0.5, window, totalMs)}
            >
              Zoom in
            </button>
            <button
              type="button"
              class="button small"
              disabled={!zoom}
              onClick={() => zoomBy(2, window, totalMs)}
            >
              out
            </button>
            <button
              type="button"
              class="button small"
              disabled={!zoom}
              onClick={() => zoomTo(undefined)}
            >
              all
            </button>
          </span>
        }
      >
        <PhaseBar detail={detail} />
        <Waterfall detail={detail} window={window} />
        {detail.spansLeftOut > 0 && (
          <p class="muted">
            {detail.spansLeftOut}{" "}
            spans beyond the limit of one trace were not stored.
          </p>
        )}
      </Section>
      <Section title="Tokens">
        {detail.tokens && detail.tokens.count > 0
          ? <TokenStrip tokens={detail.tokens} />
          : (
            <p class="muted">
              {detail.summary.open
                ? "No token has been reported yet."
                : "Nothing was generated, or the spans of the decode worker did not arrive."}
            </p>
          )}
      </Section>
      <div class="columns">
        {detail.routes.map((route) => (
          <RouteCard
            key={route.spanId}
            route={route}
            of={detail.routes.length}
          />
        ))}
        {detail.prefills.map((run) => (
          <PrefillCard
            key={run.spanId}
            run={run}
          />
        ))}
        {detail.transfers.map((transfer) => (
          <TransferCard key={transfer.spanId} transfer={transfer} />
        ))}
        {detail.decodes.map((run) => (
          <DecodeCard key={run.spanId} run={run} of={detail.decodes.length} />
        ))}
      </div>
      <Content content={detail.content} />
    </>
  );
}

/** Clocks of processes differ: bars may begin after the root has ended. */
function spanOfTime({ summary, spans }: TraceDetail): number {
  const ends = spans.reduce(
    (latest, span) =>
      Math.max(latest, span.startAtMs + span.durationMs - summary.startAtMs),
    summary.durationMs,
  );
  return Math.max(ends, 0.001);
}

function Content({ content }: { content: TraceContent | null }) {
  return (
    <Section title="Prompt and answer">
      {content === null
        ? (
          <p class="muted">
            Not captured. Prompts and answers are other people's text: they are
            kept only when the services run with QUETZAL_CAPTURE_CONTENT=true.
          </p>
        )
        : (
          <div class="content">
            {typeof content.input === "string" || content.input === null
              ? <Message role="prompt" text={content.input} />
              : content.input.map((message, i) => (
                <Message key={i} role={message.role} text={message.content} />
              ))}
            <Message role="answer" text={content.output} />
            {content.truncated && (
              <p class="muted">Cut at the limit of what a trace keeps.</p>
            )}
          </div>
        )}
    </Section>
  );
}

function Message({ role, text }: { role: string; text: string | null }) {
  return (
    <div class="message">
      <h3>
        <Foreign text={role} max={40} />
      </h3>
      <p class="prose">
        <Foreign text={text} max={65_536} />
      </p>
    </div>
  );
}

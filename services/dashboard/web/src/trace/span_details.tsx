/** @jsxImportSource preact */
import type { ComponentChildren } from "preact";
import type {
  Attributes,
  AttributeValue,
  Span,
  TraceDetail,
} from "../../../api_types.ts";
import { formatDate, formatMs } from "../format.ts";
import { CopyId } from "../parts/small.tsx";
import { Foreign, tame } from "../parts/foreign.tsx";
import type { RowPart } from "./waterfall_rows.ts";

/** Entries of a list shown at once. */
const shownMax = 200;

interface SpanDetailsProps {
  readonly span: Span;
  readonly detail: TraceDetail;
  readonly parts?: readonly RowPart[];
}

/** All that a span says, as it said it. */
export function SpanDetails({ span, detail, parts }: SpanDetailsProps) {
  const zeroMs = detail.summary.startAtMs;
  if (parts) return <PartList parts={parts} />;
  return (
    <div class="span-details">
      <dl class="facts">
        <Fact name="Span">
          <CopyId id={span.spanId} what="span id" />
        </Fact>
        <Fact name="Kind">{span.kind}</Fact>
        <Fact name="Started">
          {formatDate(span.startAtMs)} ({formatMs(span.startAtMs - zeroMs)} in)
        </Fact>
        <Fact name="Took">{formatMs(span.durationMs)}</Fact>
        {span.statusMessage && (
          <Fact name="Status">
            <Foreign text={span.statusMessage} max={1_000} />
          </Fact>
        )}
      </dl>
      <AttributeList attributes={span.attributes} />
      {span.events.length > 0 && (
        <>
          <h3>Events</h3>
          <ol class="events">
            {span.events.slice(0, shownMax).map((event, i) => (
              <li key={i}>
                <span class="number">{formatMs(event.atMs - zeroMs)}</span>{" "}
                <strong>
                  <Foreign text={event.name} max={80} />
                </strong>{" "}
                <span class="muted">{inLine(event.attributes)}</span>
              </li>
            ))}
          </ol>
          <Rest count={span.events.length} what="events" />
        </>
      )}
      {span.links.length > 0 && (
        <p>
          Linked traces: {span.links.slice(0, 20).map((link) => (
            <a
              key={link.spanId}
              href={`/traces/${encodeURIComponent(link.traceId)}`}
            >
              <code>{link.traceId.slice(0, 8)}</code>
            </a>
          ))}
        </p>
      )}
    </div>
  );
}

function PartList({ parts }: { parts: readonly RowPart[] }) {
  return (
    <div class="span-details">
      <ol class="events">
        {parts.slice(0, shownMax).map((part, i) => (
          <li key={i}>
            <span class="number">{formatMs(part.startMs)}</span> {part.label()}
          </li>
        ))}
      </ol>
      <Rest count={parts.length} what="entries" />
    </div>
  );
}

function Rest({ count, what }: { count: number; what: string }) {
  if (count <= shownMax) return null;
  return <p class="muted">and {count - shownMax} more {what}</p>;
}

export function AttributeList({ attributes }: { attributes: Attributes }) {
  const entries = Object.entries(attributes);
  if (entries.length === 0) return null;
  return (
    <dl class="attributes">
      {entries.slice(0, shownMax).map(([name, value]) => (
        <div key={name}>
          <dt>
            <Foreign text={name} max={120} />
          </dt>
          <dd>
            <Foreign text={textOf(value)} max={4_000} />
          </dd>
        </div>
      ))}
    </dl>
  );
}

function Fact(
  { name, children }: { name: string; children: ComponentChildren },
) {
  return (
    <div>
      <dt>{name}</dt>
      <dd>{children}</dd>
    </div>
  );
}

export function textOf(value: AttributeValue): string {
  if (typeof value === "string") return value;
  return JSON.stringify(value);
}

/** `name value, name value`, without the prefix that all of ours have. */
function inLine(attributes: Attributes): string {
  return tame(
    Object.entries(attributes).map(([name, value]) =>
      `${name.replace(/^quetzal\./, "")} ${textOf(value)}`
    ).join(", "),
    600,
  );
}

import { Keys } from "../../../lib/telemetry/attributes.ts";
import type {
  Attributes,
  ChatMessage,
  Span,
  SpanEvent,
  TraceContent,
} from "../api_types.ts";
import { textOf } from "./attributes_of.ts";
import type { TraceSpans } from "./span_roles.ts";

/** Attributes that hold what people wrote, or from which it can be read. */
const contentKeys: ReadonlySet<string> = new Set([
  Keys.inputMessages,
  Keys.outputMessages,
  Keys.tokenTexts,
  Keys.tokenIds,
  "gen_ai.system_instructions",
  "gen_ai.tool.definitions",
  "gen_ai.prompt",
  "gen_ai.completion",
]);

/**
 * Takes content out of a span on its way in, when capture is off: what was never written down
 * cannot leak, whoever sent it.
 */
export function stripContent(span: Span): Span {
  if (!holdsContent(span)) return span;
  return {
    ...span,
    attributes: without(span.attributes, contentKeys),
    events: span.events.map((event) => ({
      ...event,
      attributes: without(event.attributes, contentKeys),
    })),
  };
}

/** The span for the page: packed columns are shown elsewhere, content only when allowed. */
export function withoutContent(span: Span, captureContent: boolean): Span {
  const shown = captureContent ? span : stripContent(span);
  const events = shown.events.filter(({ name }) => name !== "tokens");
  return events.length === shown.events.length ? shown : { ...shown, events };
}

export function readContent(
  { tokenizes, generations, root }: TraceSpans,
): TraceContent | null {
  const spans = [...tokenizes, ...generations, ...(root ? [root] : [])];
  const input = firstOf(spans, Keys.inputMessages);
  const output = firstOf(spans, Keys.outputMessages);
  if (input === null && output === null) return null;
  const parsed = input === null ? null : parse(input);
  return {
    input: parsed === undefined ? input : asInput(parsed),
    output: output === null ? null : asText(parse(output) ?? output),
    // Senders cut at the same length as the receiver.
    truncated: (input?.length ?? 0) >= 65_536 ||
      (output?.length ?? 0) >= 65_536,
  };
}

function holdsContent({ attributes, events }: Span): boolean {
  return hasAny(attributes) ||
    events.some(({ attributes }: SpanEvent) => hasAny(attributes));
}

function hasAny(attributes: Attributes): boolean {
  for (const key in attributes) if (contentKeys.has(key)) return true;
  return false;
}

function without(
  attributes: Attributes,
  keys: ReadonlySet<string>,
): Attributes {
  return Object.fromEntries(
    Object.entries(attributes).filter(([key]) => !keys.has(key)),
  );
}

function firstOf(spans: readonly Span[], key: string): string | null {
  for (const { attributes } of spans) {
    const value = textOf(attributes, key);
    if (value !== null) return value;
  }
  return null;
}

/** `undefined`: cut off, or never was JSON. */
function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function asInput(value: unknown): string | readonly ChatMessage[] | null {
  if (!Array.isArray(value)) return value === null ? null : asText(value);
  return value.slice(0, 1_000).map((message) => {
    const { role, content } = (message ?? {}) as Record<string, unknown>;
    return { role: asText(role ?? ""), content: asText(content ?? "") };
  });
}

function asText(value: unknown): string {
  return typeof value === "string" ? value : JSON.stringify(value) ?? "";
}

/** OTLP/JSON: ids in hex, 64-bit integers as strings, camelCase names. */
import type {
  Attributes,
  AttributeValue,
  SpanEvent,
  SpanLink,
} from "../api_types.ts";
import { limits, type OtlpBatch, OtlpError } from "./limits.ts";
import {
  BatchBuilder,
  emptySpan,
  finite,
  type RawSpan,
  resourceNames,
  setAttribute,
} from "./span_builder.ts";

/** Throws `OtlpError` when it is not JSON or no such message. */
export function decodeJson(data: Uint8Array, nowMs: number): OtlpBatch {
  const batch = new BatchBuilder(nowMs);
  const request = record(parse(data));
  if (request === undefined) {
    throw new OtlpError("Cannot read spans: needs a JSON object, found none");
  }
  for (const resourceSpans of records(request.resourceSpans)) {
    const room = { bytes: limits.spanBytes };
    const resource = resourceNames(
      readPairs(record(resourceSpans.resource)?.attributes, room),
    );
    for (const scopeSpans of records(resourceSpans.scopeSpans)) {
      for (const span of records(scopeSpans.spans)) {
        batch.add(readSpan(span), resource);
      }
    }
  }
  return batch.build();
}

type Json = Readonly<Record<string, unknown>>;

function parse(data: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder().decode(data));
  } catch (cause) {
    throw new OtlpError("Cannot read spans: needs JSON, found something else", {
      cause,
    });
  }
}

function record(value: unknown): Json | undefined {
  return typeof value === "object" && value !== null && !Array.isArray(value)
    ? value as Json
    : undefined;
}

function records(value: unknown): Json[] {
  if (!Array.isArray(value)) return [];
  return value.filter((entry): entry is Json => record(entry) !== undefined);
}

function text(value: unknown, max: number): string {
  return typeof value === "string" ? value.slice(0, max) : "";
}

function readSpan(json: Json): RawSpan {
  const room = { bytes: limits.spanBytes };
  const status = record(json.status);
  const span: RawSpan = {
    ...emptySpan(),
    traceId: hex(json.traceId),
    spanId: hex(json.spanId),
    parentSpanId: hex(json.parentSpanId),
    name: text(json.name, limits.nameLength),
    kind: enumOf(json.kind, "SPAN_KIND_", kindNames),
    startAtMs: nanosAsMs(json.startTimeUnixNano),
    endAtMs: nanosAsMs(json.endTimeUnixNano),
    statusCode: enumOf(status?.code, "STATUS_CODE_", statusNames),
    statusMessage: text(status?.message, 4_096),
    attributes: readPairs(json.attributes, room),
    events: readEvents(json.events, room),
    links: readLinks(json.links),
  };
  span.bytes += limits.spanBytes - room.bytes;
  return span;
}

const kindNames = [
  "UNSPECIFIED",
  "INTERNAL",
  "SERVER",
  "CLIENT",
  "PRODUCER",
  "CONSUMER",
];
const statusNames = ["UNSET", "OK", "ERROR"];

/** Senders write the number or the name. */
function enumOf(
  value: unknown,
  prefix: string,
  names: readonly string[],
): number {
  if (typeof value === "number") return value;
  if (typeof value !== "string") return 0;
  return Math.max(0, names.indexOf(value.replace(prefix, "")));
}

function hex(value: unknown): string {
  return typeof value === "string" && /^[0-9a-f]{16,32}$/i.test(value)
    ? value.toLowerCase()
    : "";
}

function nanosAsMs(value: unknown): number {
  if (typeof value === "number") return value / 1e6;
  if (typeof value !== "string" || !/^\d{1,20}$/.test(value)) return 0;
  return Number(value.slice(0, -6) || 0) + Number(value.slice(-6)) / 1e6;
}

function readEvents(value: unknown, room: { bytes: number }): SpanEvent[] {
  const events: SpanEvent[] = [];
  for (const event of records(value).slice(0, limits.events)) {
    if (room.bytes <= 0) break;
    events.push({
      name: text(event.name, limits.nameLength),
      atMs: nanosAsMs(event.timeUnixNano),
      attributes: readPairs(event.attributes, room, {
        count: limits.eventAttributes,
      }),
    });
    room.bytes -= 60;
  }
  return events;
}

function readLinks(value: unknown): SpanLink[] {
  return records(value).slice(0, limits.links)
    .map((link) => ({ traceId: hex(link.traceId), spanId: hex(link.spanId) }))
    .filter(({ traceId, spanId }) => traceId !== "" && spanId !== "");
}

function readPairs(
  value: unknown,
  room: { bytes: number },
  { count = limits.attributes as number, depth = 0 } = {},
): Attributes {
  const attributes: Attributes = {};
  for (const pair of records(value).slice(0, count)) {
    if (room.bytes <= 0) break;
    const key = text(pair.key, limits.keyLength);
    room.bytes -= key.length + 8;
    setAttribute(attributes, key, readValue(pair.value, room, depth));
  }
  return attributes;
}

function readValue(
  value: unknown,
  room: { bytes: number },
  depth: number,
): AttributeValue {
  room.bytes -= 8;
  const any = record(value);
  if (any === undefined || depth > limits.depth) return null;
  if (typeof any.stringValue === "string") {
    const max = Math.max(0, Math.min(limits.textLength, room.bytes));
    const cut = any.stringValue.slice(0, max);
    room.bytes -= cut.length;
    return cut;
  }
  if (typeof any.boolValue === "boolean") return any.boolValue;
  if (any.intValue !== undefined) return integer(any.intValue);
  if (any.doubleValue !== undefined) return double(any.doubleValue);
  if (any.arrayValue !== undefined) {
    return records(record(any.arrayValue)?.values)
      .slice(0, limits.arrayLength)
      .map((entry) =>
        room.bytes > 0 ? readValue(entry, room, depth + 1) : null
      );
  }
  if (any.kvlistValue !== undefined) {
    const { values } = record(any.kvlistValue) ?? {};
    return readPairs(values, room, { depth: depth + 1 });
  }
  if (typeof any.bytesValue === "string") {
    return text(any.bytesValue, limits.textLength);
  }
  return null;
}

function integer(value: unknown): AttributeValue {
  if (typeof value === "number") return finite(value);
  if (typeof value !== "string" || !/^-?\d{1,20}$/.test(value)) return null;
  const number = Number(value);
  return Number.isSafeInteger(number) ? number : value;
}

function double(value: unknown): AttributeValue {
  if (typeof value === "number") return value;
  return value === "NaN" || value === "Infinity" || value === "-Infinity"
    ? value
    : null;
}

/** `ExportTraceServiceRequest` of opentelemetry-proto 1.x, by field number. */
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
  type ResourceNames,
  resourceNames,
  setAttribute,
} from "./span_builder.ts";
import { WireReader } from "./wire_reader.ts";

/** Throws `OtlpError` when the bytes are no such message at all. */
export function decodeProtobuf(data: Uint8Array, nowMs: number): OtlpBatch {
  const reader = new WireReader(data);
  const batch = new BatchBuilder(nowMs);
  for (let tag = reader.tag(); tag !== 0; tag = reader.tag()) {
    if (tag === fields.resourceSpans) readResourceSpans(reader, batch);
    else reader.skip(tag);
  }
  return batch.build();
}

/** Tags: field number times 8, plus the wire type. */
const message = (number: number) => number * 8 + 2;
const fields = { resourceSpans: message(1) };

/** The resource may stand behind its spans, so it is looked for first. */
function readResourceSpans(reader: WireReader, batch: BatchBuilder): void {
  const outer = reader.enter();
  const start = reader.at;
  let resource: ResourceNames = resourceNames({});
  for (let tag = reader.tag(); tag !== 0; tag = reader.tag()) {
    if (tag === message(1)) resource = readResource(reader);
    else reader.skip(tag);
  }
  reader.at = start;
  for (let tag = reader.tag(); tag !== 0; tag = reader.tag()) {
    if (tag === message(2)) readScopeSpans(reader, resource, batch);
    else reader.skip(tag);
  }
  reader.leave(outer);
}

function readResource(reader: WireReader): ResourceNames {
  const outer = reader.enter();
  const attributes: Attributes = {};
  const room = { count: limits.attributes, bytes: limits.spanBytes };
  for (let tag = reader.tag(); tag !== 0; tag = reader.tag()) {
    if (tag === message(1)) readPair(reader, attributes, room, 0);
    else reader.skip(tag);
  }
  reader.leave(outer);
  return resourceNames(attributes);
}

function readScopeSpans(
  reader: WireReader,
  resource: ResourceNames,
  batch: BatchBuilder,
): void {
  const outer = reader.enter();
  for (let tag = reader.tag(); tag !== 0; tag = reader.tag()) {
    if (tag === message(2)) {
      const inside = reader.enter();
      const { end } = reader;
      try {
        batch.add(readSpan(reader), resource);
      } catch (error) {
        // Its length was readable, so the spans behind it are too.
        if (!(error instanceof OtlpError)) throw error;
        batch.reject(error.message);
        reader.end = end;
      }
      reader.leave(inside);
    } else reader.skip(tag);
  }
  reader.leave(outer);
}

function readSpan(reader: WireReader): RawSpan {
  const span = emptySpan();
  const room = { count: limits.attributes, bytes: limits.spanBytes };
  for (let tag = reader.tag(); tag !== 0; tag = reader.tag()) {
    switch (tag) {
      case message(1):
        span.traceId = reader.hex(16);
        break;
      case message(2):
        span.spanId = reader.hex(8);
        break;
      case message(4):
        span.parentSpanId = reader.hex(8);
        break;
      case message(5):
        span.name = reader.text(limits.nameLength);
        break;
      case 6 * 8:
        span.kind = reader.varint();
        break;
      case 7 * 8 + 1:
        span.startAtMs = reader.nanosAsMs();
        break;
      case 8 * 8 + 1:
        span.endAtMs = reader.nanosAsMs();
        break;
      case message(9):
        readPair(reader, span.attributes, room, 0);
        break;
      case message(11):
        readEvent(reader, span.events, room);
        break;
      case message(13):
        readLink(reader, span.links);
        break;
      case message(15):
        readStatus(reader, span);
        break;
      default:
        reader.skip(tag);
    }
  }
  span.bytes += limits.spanBytes - room.bytes;
  return span;
}

/** What one span may still take. */
interface Room {
  count: number;
  bytes: number;
}

function readEvent(reader: WireReader, events: SpanEvent[], room: Room): void {
  const outer = reader.enter();
  let atMs = 0;
  let name = "";
  const attributes: Attributes = {};
  const inside = { count: limits.eventAttributes, bytes: room.bytes };
  if (events.length < limits.events && room.bytes > 0) {
    for (let tag = reader.tag(); tag !== 0; tag = reader.tag()) {
      if (tag === 1 * 8 + 1) atMs = reader.nanosAsMs();
      else if (tag === message(2)) name = reader.text(limits.nameLength);
      else if (tag === message(3)) readPair(reader, attributes, inside, 0);
      else reader.skip(tag);
    }
    room.bytes = inside.bytes - name.length - 40;
    events.push({ name, atMs, attributes });
  }
  reader.leave(outer);
}

function readLink(reader: WireReader, links: SpanLink[]): void {
  const outer = reader.enter();
  let traceId = "";
  let spanId = "";
  for (let tag = reader.tag(); tag !== 0; tag = reader.tag()) {
    if (tag === message(1)) traceId = reader.hex(16);
    else if (tag === message(2)) spanId = reader.hex(8);
    else reader.skip(tag);
  }
  if (traceId !== "" && spanId !== "" && links.length < limits.links) {
    links.push({ traceId, spanId });
  }
  reader.leave(outer);
}

function readStatus(reader: WireReader, span: RawSpan): void {
  const outer = reader.enter();
  for (let tag = reader.tag(); tag !== 0; tag = reader.tag()) {
    if (tag === message(2)) span.statusMessage = reader.text(4_096);
    else if (tag === 3 * 8) span.statusCode = reader.varint();
    else reader.skip(tag);
  }
  reader.leave(outer);
}

function readPair(
  reader: WireReader,
  attributes: Attributes,
  room: Room,
  depth: number,
): void {
  const outer = reader.enter();
  if (room.count-- > 0 && room.bytes > 0) {
    let key = "";
    let value: AttributeValue = null;
    for (let tag = reader.tag(); tag !== 0; tag = reader.tag()) {
      if (tag === message(1)) key = reader.text(limits.keyLength);
      else if (tag === message(2)) value = readValue(reader, room, depth);
      else reader.skip(tag);
    }
    room.bytes -= key.length + 8;
    setAttribute(attributes, key, value);
  }
  reader.leave(outer);
}

/** AnyValue; beyond the allowed depth `null`. */
function readValue(
  reader: WireReader,
  room: Room,
  depth: number,
): AttributeValue {
  const outer = reader.enter();
  let value: AttributeValue = null;
  if (depth <= limits.depth) {
    for (let tag = reader.tag(); tag !== 0; tag = reader.tag()) {
      switch (tag) {
        case message(1):
          value = reader.text(
            Math.max(0, Math.min(limits.textLength, room.bytes)),
          );
          room.bytes -= value.length;
          break;
        case 2 * 8:
          value = reader.varint() !== 0;
          break;
        case 3 * 8:
          value = reader.integer();
          break;
        case 4 * 8 + 1:
          value = finite(reader.double());
          break;
        case message(5):
          value = readList(reader, room, depth + 1);
          break;
        case message(6):
          value = readMap(reader, room, depth + 1);
          break;
        case message(7):
          value = reader.base64(limits.textLength);
          room.bytes -= value.length;
          break;
        default:
          reader.skip(tag);
      }
    }
  }
  room.bytes -= 8;
  reader.leave(outer);
  return value;
}

function readList(
  reader: WireReader,
  room: Room,
  depth: number,
): AttributeValue {
  const outer = reader.enter();
  const list: AttributeValue[] = [];
  for (let tag = reader.tag(); tag !== 0; tag = reader.tag()) {
    if (
      tag === message(1) && list.length < limits.arrayLength && room.bytes > 0
    ) list.push(readValue(reader, room, depth));
    else reader.skip(tag);
  }
  reader.leave(outer);
  return list;
}

function readMap(
  reader: WireReader,
  room: Room,
  depth: number,
): AttributeValue {
  const outer = reader.enter();
  const map: Attributes = {};
  const inside = { count: limits.attributes, bytes: room.bytes };
  for (let tag = reader.tag(); tag !== 0; tag = reader.tag()) {
    if (tag === message(1)) readPair(reader, map, inside, depth);
    else reader.skip(tag);
  }
  room.bytes = inside.bytes;
  reader.leave(outer);
  return map;
}

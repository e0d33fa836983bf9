import type { Attributes, AttributeValue, Span } from "../api_types.ts";

/** A stored trace as OTLP/JSON: `curl …/otlp | curl --data-binary @- jaeger:4318/v1/traces`. */
export function encodeJson(traceId: string, spans: readonly Span[]): unknown {
  const groups = Map.groupBy(
    spans,
    ({ service, instance }) => `${service}\n${instance ?? ""}`,
  );
  return {
    resourceSpans: [...groups.values()].map((group) => ({
      resource: {
        attributes: pairs({
          "service.name": group[0].service,
          "service.namespace": "quetzal",
          ...(group[0].instance === null
            ? {}
            : { "service.instance.id": group[0].instance }),
        }),
      },
      scopeSpans: [{
        scope: { name: "quetzal" },
        spans: group.map((span) => encodeSpan(traceId, span)),
      }],
    })),
  };
}

const kinds = ["", "internal", "server", "client", "producer", "consumer"];
const statuses = ["unset", "ok", "error"];

function encodeSpan(traceId: string, span: Span): unknown {
  return {
    traceId,
    spanId: span.spanId,
    ...(span.parentSpanId === null ? {} : { parentSpanId: span.parentSpanId }),
    name: span.name,
    kind: kinds.indexOf(span.kind),
    startTimeUnixNano: nanos(span.startAtMs),
    endTimeUnixNano: nanos(span.startAtMs + span.durationMs),
    attributes: pairs(span.attributes),
    events: span.events.map(({ name, atMs, attributes }) => ({
      name,
      timeUnixNano: nanos(atMs),
      attributes: pairs(attributes),
    })),
    links: span.links,
    status: {
      code: statuses.indexOf(span.status),
      ...(span.statusMessage === null ? {} : { message: span.statusMessage }),
    },
  };
}

function nanos(ms: number): string {
  const whole = Math.floor(ms);
  const rest = Math.round((ms - whole) * 1e6);
  return `${BigInt(whole) * 1_000_000n + BigInt(rest)}`;
}

function pairs(attributes: Attributes): unknown[] {
  return Object.entries(attributes).map(([key, value]) => ({
    key,
    value: anyValue(value),
  }));
}

function anyValue(value: AttributeValue): unknown {
  if (value === null) return {};
  if (Array.isArray(value)) {
    return { arrayValue: { values: value.map(anyValue) } };
  }
  switch (typeof value) {
    case "string":
      return { stringValue: value };
    case "boolean":
      return { boolValue: value };
    case "number":
      return Number.isInteger(value)
        ? { intValue: `${value}` }
        : { doubleValue: value };
    default:
      return { kvlistValue: { values: pairs(value as Attributes) } };
  }
}

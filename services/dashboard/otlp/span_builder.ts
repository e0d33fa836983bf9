import type {
  Attributes,
  AttributeValue,
  Span,
  SpanEvent,
  SpanKind,
  SpanLink,
} from "../api_types.ts";
import { limits, type OtlpBatch, type ReceivedSpan } from "./limits.ts";

/** Both decoders fill one of these per span; what it refuses counts as rejected. */
export interface RawSpan {
  traceId: string;
  spanId: string;
  parentSpanId: string;
  name: string;
  kind: number;
  startAtMs: number;
  endAtMs: number;
  statusCode: number;
  statusMessage: string;
  attributes: Attributes;
  events: SpanEvent[];
  links: SpanLink[];
  bytes: number;
}

export interface ResourceNames {
  readonly service: string;
  readonly instance: string | null;
}

const kinds: readonly SpanKind[] = [
  "internal",
  "internal",
  "server",
  "client",
  "producer",
  "consumer",
];
const statuses = ["unset", "ok", "error"] as const;

/** Gathers the spans of one request. */
export class BatchBuilder {
  readonly #spans: ReceivedSpan[] = [];
  readonly #nowMs: number;
  #rejected = 0;
  #reason: string | undefined;

  constructor(nowMs: number) {
    this.#nowMs = nowMs;
  }

  add(raw: RawSpan, resource: ResourceNames): void {
    if (this.#spans.length >= limits.spansPerRequest) {
      return this.reject(`more than ${limits.spansPerRequest} spans at once`);
    }
    if (!isId(raw.traceId, 32)) {
      return this.reject("a trace id that is not 16 bytes");
    }
    if (!isId(raw.spanId, 16)) {
      return this.reject("a span id that is not 8 bytes");
    }
    const { startAtMs } = raw;
    if (!(startAtMs > 0 && startAtMs <= this.#nowMs + limits.futureMs)) {
      return this.reject("a start time that is absent or in the future");
    }
    const { traceId, bytes } = raw;
    this.#spans.push({ traceId, span: toSpan(raw, resource), bytes });
  }

  reject(reason: string): void {
    this.#rejected++;
    this.#reason ??= reason;
  }

  build(): OtlpBatch {
    return {
      spans: this.#spans,
      rejected: this.#rejected,
      reason: this.#reason,
    };
  }
}

export function emptySpan(): RawSpan {
  return {
    traceId: "",
    spanId: "",
    parentSpanId: "",
    name: "",
    kind: 0,
    startAtMs: 0,
    endAtMs: 0,
    statusCode: 0,
    statusMessage: "",
    attributes: {},
    events: [],
    links: [],
    bytes: 200,
  };
}

export function resourceNames(attributes: Attributes): ResourceNames {
  const service = attributes["service.name"];
  const instance = attributes["service.instance.id"];
  return {
    service: typeof service === "string" && service !== ""
      ? service.slice(0, limits.keyLength)
      : "unknown",
    instance: typeof instance === "string" && instance !== ""
      ? instance.slice(0, limits.keyLength)
      : null,
  };
}

/** Sets one attribute; the name "__proto__" is a name like any other. */
export function setAttribute(
  attributes: Attributes,
  key: string,
  value: AttributeValue,
): void {
  if (key === "__proto__") {
    Object.defineProperty(attributes, key, {
      value,
      enumerable: true,
      configurable: true,
      writable: true,
    });
  } else (attributes as Record<string, AttributeValue>)[key] = value;
}

/** JSON knows neither; their names say more than `null`. */
export function finite(value: number): number | string {
  return Number.isFinite(value) ? value : `${value}`;
}

function toSpan(raw: RawSpan, { service, instance }: ResourceNames): Span {
  return {
    spanId: raw.spanId,
    parentSpanId: isId(raw.parentSpanId, 16) ? raw.parentSpanId : null,
    name: raw.name,
    service,
    instance,
    kind: kinds[raw.kind] ?? "internal",
    startAtMs: raw.startAtMs,
    durationMs: Math.max(0, raw.endAtMs - raw.startAtMs),
    status: statuses[raw.statusCode] ?? "unset",
    statusMessage: raw.statusMessage === "" ? null : raw.statusMessage,
    attributes: raw.attributes,
    events: raw.events,
    links: raw.links,
  };
}

/** Lower-case hex of the right length that is not all zeros. */
function isId(id: string, length: number): boolean {
  return id.length === length && !/^0*$/.test(id);
}

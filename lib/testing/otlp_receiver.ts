import { BinaryReader, WireType } from "@bufbuild/protobuf/wire";
import { createServer, type IncomingMessage } from "node:http";
import type { AddressInfo } from "node:net";

/** A span as a collector gets it. */
export interface ReceivedSpan {
  readonly traceId: string;
  readonly spanId: string;
  /** "" for a root. */
  readonly parentSpanId: string;
  readonly name: string;
  readonly kind: number;
  readonly attributes: Readonly<Record<string, unknown>>;
  readonly events: readonly ReceivedEvent[];
  /** 0 unset, 1 ok, 2 error. */
  readonly statusCode: number;
  readonly resource: Readonly<Record<string, unknown>>;
}

export interface ReceivedEvent {
  readonly name: string;
  readonly atMs: number;
  readonly attributes: Readonly<Record<string, unknown>>;
}

/** Stands in for an OpenTelemetry collector over HTTP and protobuf. */
export interface OtlpReceiver extends AsyncDisposable {
  /** What OTEL_EXPORTER_OTLP_ENDPOINT is set to. */
  readonly endpoint: string;
  readonly spans: readonly ReceivedSpan[];
  /** Paths and headers of the requests so far. */
  readonly requests: readonly Pick<IncomingMessage, "url" | "headers">[];
}

/** @param hang Takes requests and never answers, as a stuck collector does. */
export function startOtlpReceiver(
  { hang = false }: { hang?: boolean } = {},
): Promise<OtlpReceiver> {
  const spans: ReceivedSpan[] = [];
  const requests: Pick<IncomingMessage, "url" | "headers">[] = [];
  const server = createServer(async (request, response) => {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk);
    requests.push({ url: request.url, headers: request.headers });
    if (hang) return;
    spans.push(...decodeSpans(Buffer.concat(chunks)));
    response.setHeader("content-type", "application/x-protobuf");
    response.end();
  });
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(0, "127.0.0.1", () => {
      const { port } = server.address() as AddressInfo;
      resolve({
        endpoint: `http://127.0.0.1:${port}`,
        spans,
        requests,
        [Symbol.asyncDispose]: () =>
          new Promise((closed) => {
            server.close(() => closed());
            server.closeAllConnections();
          }),
      });
    });
  });
}

/**
 * Reads the fields of opentelemetry/proto/trace/v1 that tests look at, by number: a decoder of
 * its own, so that it does not share a fault with the encoder under test.
 */
function decodeSpans(request: Uint8Array): ReceivedSpan[] {
  return many(fields(request), 1).flatMap((resourceSpans) => {
    const group = fields(resourceSpans);
    const resource = attributes(fields(bytes(group, 1)), 1);
    return many(group, 2).flatMap((scopeSpans) =>
      many(fields(scopeSpans), 2).map((span) => decodeSpan(span, resource))
    );
  });
}

function decodeSpan(
  data: Uint8Array,
  resource: ReceivedSpan["resource"],
): ReceivedSpan {
  const span = fields(data);
  return {
    traceId: hex(bytes(span, 1)),
    spanId: hex(bytes(span, 2)),
    parentSpanId: hex(bytes(span, 4)),
    name: text(bytes(span, 5)),
    kind: Number(span.get(6)?.[0] ?? 0),
    attributes: attributes(span, 9),
    events: many(span, 11).map((event) => ({
      name: text(bytes(fields(event), 2)),
      atMs: Number(fields(event).get(1)?.[0] ?? 0n) / 1e6,
      attributes: attributes(fields(event), 3),
    })),
    statusCode: Number(fields(bytes(span, 15)).get(3)?.[0] ?? 0),
    resource,
  };
}

type Value = Uint8Array | number | bigint | string;
type Fields = Map<number, Value[]>;

function fields(data: Uint8Array): Fields {
  const found: Fields = new Map();
  const reader = new BinaryReader(data);
  while (reader.pos < reader.len) {
    const [number, type] = reader.tag();
    const value = readers[type]?.(reader);
    if (value === undefined) throw new Error(`Cannot read wire type ${type}`);
    found.set(number, [...found.get(number) ?? [], value]);
  }
  return found;
}

const readers: Partial<Record<WireType, (reader: BinaryReader) => Value>> = {
  [WireType.Varint]: (reader) => reader.int64(),
  [WireType.Bit64]: (reader) => reader.fixed64(),
  [WireType.LengthDelimited]: (reader) => reader.bytes(),
  [WireType.Bit32]: (reader) => reader.fixed32(),
};

function many(message: Fields, number: number): Uint8Array[] {
  return (message.get(number) ?? []) as Uint8Array[];
}

function bytes(message: Fields, number: number): Uint8Array {
  return many(message, number)[0] ?? new Uint8Array();
}

function attributes(message: Fields, number: number): Record<string, unknown> {
  return Object.fromEntries(
    many(message, number).map((pair) => {
      const entry = fields(pair);
      return [text(bytes(entry, 1)), anyValue(bytes(entry, 2))];
    }),
  );
}

/** AnyValue: 1 string, 2 bool, 3 int, 4 double, 5 array. */
function anyValue(data: Uint8Array): unknown {
  const [[kind, [value]] = [0, [undefined]]] = fields(data);
  if (kind === 1) return text(value as Uint8Array);
  if (kind === 2) return Number(value) === 1;
  if (kind === 3) return Number(value);
  if (kind === 4) return double(value as bigint);
  if (kind === 5) return many(fields(value as Uint8Array), 1).map(anyValue);
  return undefined;
}

function double(bits: bigint): number {
  const view = new DataView(new ArrayBuffer(8));
  view.setBigUint64(0, BigInt(bits));
  return view.getFloat64(0);
}

const text = (data: Uint8Array) => Buffer.from(data).toString("utf8");
const hex = (data: Uint8Array) => Buffer.from(data).toString("hex");

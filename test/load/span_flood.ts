import {
  demoRequest,
  ProtobufTraceSerializer,
} from "../../services/dashboard/testing/spans.ts";

/** One request of the exporter, whose traces get new ids each time it is sent. */
interface Batch {
  readonly bytes: Uint8Array;
  /** Where the 16 bytes of each trace's id stand, by trace. */
  readonly places: readonly (readonly number[])[];
  readonly spans: number;
}

const words = ["the ", "cache ", "holds ", "keys ", "and ", "values "];

/**
 * Ready-made OTLP requests of many different traces: encoding must not take time from what is
 * measured, so only ids are written anew.
 */
export function makeBatches(
  { batches = 40, traces = 100, daysMax = 6, random = Math.random } = {},
): Batch[] {
  return Array.from({ length: batches }, () => {
    const spans = Array.from({ length: traces }, () => {
      const outputTokens = 8 + Math.floor(random() * 48);
      return demoRequest({
        model: `model-${Math.floor(random() ** 3 * 200)}`,
        tenant: `tenant-${Math.floor(random() * 50)}`,
        promptTokens: Math.floor(10 ** (1 + random() * 3)),
        durationMs: Math.floor(10 ** (1 + random() * 3)),
        startAtMs: Date.now() - 60_000 - Math.floor(random() * daysMax * 864e5),
        texts: Array.from({ length: outputTokens }, (_, i) => words[i % 6]),
        ...(random() < 0.02 ? { error: "a worker died" } : {}),
      });
    });
    const bytes = Buffer.from(
      ProtobufTraceSerializer.serializeRequest(spans.flat()),
    );
    const places = spans.map(([span]) =>
      placesOf(bytes, Buffer.from(span.spanContext().traceId, "hex"))
    );
    return { bytes, places, spans: spans.flat().length };
  });
}

let traces = 0;

/** Gives every trace of the batch an id nobody has had. */
export function renew({ bytes, places }: Batch): void {
  for (const trace of places) {
    const id = Buffer.alloc(16);
    id.writeUInt32BE(++traces, 0);
    crypto.getRandomValues(id.subarray(4));
    for (const at of trace) bytes.set(id, at);
  }
}

function placesOf(bytes: Buffer, id: Buffer): number[] {
  const places: number[] = [];
  for (let at = bytes.indexOf(id); at >= 0; at = bytes.indexOf(id, at + 16)) {
    places.push(at);
  }
  return places;
}

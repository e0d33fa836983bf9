/**
 * What is taken from one span. Spans come over the network from anybody who reaches the port:
 * whatever is longer, deeper or more than this is cut, so that no span costs more than some MB.
 */
export const limits = {
  /** Uncompressed. */
  bodyBytes: 8 << 20,
  spansPerRequest: 20_000,
  attributes: 128,
  eventAttributes: 32,
  events: 1_024,
  links: 32,
  /** UTF-16 units. */
  keyLength: 256,
  nameLength: 512,
  /** Long enough for a prompt and for a packed column of tokens. */
  textLength: 65_536,
  arrayLength: 1_024,
  /** Lists and maps inside one another. */
  depth: 6,
  /** Text and numbers of one span together, about. */
  spanBytes: 1 << 20,
  /** A span that claims to be of the future would stay on top of every list. */
  futureMs: 3_600_000,
} as const;

/** The whole request cannot be read; the sender must not try again. */
export class OtlpError extends Error {
  override readonly name = "OtlpError";
}

/** What a request held. */
export interface OtlpBatch {
  readonly spans: readonly ReceivedSpan[];
  /** Spans that could not be read, and why the first one could not. */
  readonly rejected: number;
  readonly reason: string | undefined;
}

/** A span with the trace it belongs to; the rest is the API's `Span`. */
export interface ReceivedSpan {
  readonly traceId: string;
  readonly span: import("../api_types.ts").Span;
  /** About what it takes as JSON. */
  readonly bytes: number;
}

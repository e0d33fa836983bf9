import { createHash, timingSafeEqual } from "node:crypto";
import { createGunzip } from "node:zlib";
import type { Collector } from "../collector.ts";
import {
  decodeJson,
  decodeProtobuf,
  limits,
  type OtlpBatch,
  OtlpError,
} from "../otlp/mod.ts";
import { HttpProblem } from "./api_error.ts";

export interface OtlpDoorOptions {
  readonly collector: Collector;
  /** Asked of senders; absent: nobody is asked. */
  readonly token: string | undefined;
  readonly nowMs: () => number;
}

/** `POST /v1/traces`, protobuf or JSON, plain or gzip. */
export async function takeSpans(
  request: Request,
  { collector, token, nowMs }: OtlpDoorOptions,
): Promise<Response> {
  requireToken(request.headers.get("authorization"), token);
  const type = (request.headers.get("content-type") ?? "").split(";")[0].trim();
  const isJson = type === "application/json";
  if (!isJson && type !== "application/x-protobuf") {
    throw new HttpProblem(415, {
      message: "Cannot take spans: needs content-type application/x-protobuf " +
        `or application/json, found "${type.slice(0, 100)}"`,
      reason: "wrong_type",
    });
  }
  const body = await readBody(request);
  const batch = decode(body, { isJson, nowMs: nowMs() });
  collector.take(batch, body.byteLength);
  return isJson ? Response.json(jsonAnswer(batch)) : new Response(
    protobufAnswer(batch) as Uint8Array<ArrayBuffer>,
    { headers: { "content-type": "application/x-protobuf" } },
  );
}

export function requireToken(
  authorization: string | null | undefined,
  token: string | undefined,
): void {
  if (token === undefined) return;
  const hash = (text: string) => createHash("sha256").update(text).digest();
  if (
    timingSafeEqual(hash(authorization ?? ""), hash(`Bearer ${token}`))
  ) return;
  throw new HttpProblem(401, {
    message: "Cannot take spans: needs authorization: Bearer <token>",
    reason: "unauthorized",
    headers: { "www-authenticate": "Bearer" },
  });
}

function decode(
  body: Uint8Array,
  { isJson, nowMs }: { isJson: boolean; nowMs: number },
): OtlpBatch {
  try {
    return isJson ? decodeJson(body, nowMs) : decodeProtobuf(body, nowMs);
  } catch (error) {
    if (!(error instanceof OtlpError)) throw error;
    // 400 tells the exporter not to send the same bytes again.
    throw new HttpProblem(400, { message: error.message, reason: "malformed" });
  }
}

async function readBody(request: Request): Promise<Uint8Array> {
  const encoding = request.headers.get("content-encoding") ?? "identity";
  if (Number(request.headers.get("content-length") ?? 0) > limits.bodyBytes) {
    throw tooLarge();
  }
  if (request.body === null) return new Uint8Array();
  if (encoding === "identity") return await gather(request.body);
  if (encoding !== "gzip") {
    throw new HttpProblem(415, {
      message: 'Cannot take spans: needs content-encoding "gzip" or none',
      reason: "wrong_encoding",
    });
  }
  const packed = await gather(request.body);
  return await gunzip(packed);
}

async function gather(
  body: AsyncIterable<Uint8Array>,
): Promise<Uint8Array> {
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of body) {
    bytes += chunk.byteLength;
    if (bytes > limits.bodyBytes) throw tooLarge();
    chunks.push(chunk);
  }
  return chunks.length === 1 ? chunks[0] : Buffer.concat(chunks);
}

/** Stops as soon as the result is too large, however well a bomb is packed. */
async function gunzip(packed: Uint8Array): Promise<Uint8Array> {
  const stream = createGunzip();
  stream.end(packed);
  try {
    return await gather(stream);
  } catch (error) {
    if (error instanceof HttpProblem) throw error;
    throw new HttpProblem(400, {
      message: "Cannot take spans: the body is no gzip",
      reason: "malformed",
    });
  } finally {
    stream.destroy();
  }
}

function tooLarge(): HttpProblem {
  return new HttpProblem(413, {
    message: `Cannot take spans: needs at most ${limits.bodyBytes} bytes, ` +
      "found more; send smaller batches",
    reason: "too_large",
  });
}

function jsonAnswer({ rejected, reason }: OtlpBatch): unknown {
  if (rejected === 0) return {};
  return {
    partialSuccess: {
      rejectedSpans: `${rejected}`,
      errorMessage: reason ?? "",
    },
  };
}

/** `ExportTraceServiceResponse`: 1 partial_success { 1 rejected_spans, 2 error_message }. */
export function protobufAnswer({ rejected, reason }: OtlpBatch): Uint8Array {
  if (rejected === 0) return new Uint8Array();
  const text = Buffer.from((reason ?? "").slice(0, 100));
  const inner = [
    0x08,
    ...varint(rejected),
    0x12,
    ...varint(text.length),
    ...text,
  ];
  return Uint8Array.from([0x0a, ...varint(inner.length), ...inner]);
}

function varint(value: number): number[] {
  const bytes: number[] = [];
  while (value >= 128) {
    bytes.push((value % 128) | 128);
    value = Math.floor(value / 128);
  }
  return [...bytes, value];
}

import type { IncomingMessage } from "node:http";
import { HttpError } from "./http_error.ts";

export interface BodyLimits {
  readonly bytesMax: number;
  /** The whole body must have arrived within this time. */
  readonly waitMs: number;
}

/** Reads a JSON object; hostile and broken bodies end in an `HttpError`. */
export async function readJson(
  incoming: IncomingMessage,
  limits: BodyLimits,
): Promise<Record<string, unknown>> {
  requireJsonType(incoming.headers["content-type"]);
  const value = parse(decode(await readBytes(incoming, limits)));
  if (typeof value === "object" && value !== null && !Array.isArray(value)) {
    return value as Record<string, unknown>;
  }
  throw malformed("needs a JSON object");
}

function requireJsonType(contentType: string | undefined): void {
  const type = contentType?.split(";")[0].trim().toLowerCase() ?? "";
  if (type === "application/json" || type.endsWith("+json")) return;
  throw new HttpError(
    415,
    `Cannot read the body: needs content-type application/json, found "${
      type.slice(0, 100)
    }"`,
    { reason: "unsupported_media_type" },
  );
}

function readBytes(
  incoming: IncomingMessage,
  { bytesMax, waitMs }: BodyLimits,
): Promise<Buffer> {
  const announced = Number(incoming.headers["content-length"] ?? 0);
  if (announced > bytesMax) return Promise.reject(tooLarge(bytesMax));
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let byteCount = 0;
    const timer = setTimeout(() => {
      finish(() =>
        reject(
          new HttpError(
            408,
            `Cannot read the body: it did not arrive within ${waitMs} ms`,
            {
              reason: "request_timeout",
              headers: { connection: "close" },
            },
          ),
        )
      );
    }, waitMs);
    const take = (chunk: Buffer) => {
      byteCount += chunk.length;
      if (byteCount > bytesMax) finish(() => reject(tooLarge(bytesMax)));
      else chunks.push(chunk);
    };
    const end = () =>
      finish(() =>
        resolve(chunks.length === 1 ? chunks[0] : Buffer.concat(chunks))
      );
    const broken = () =>
      finish(() => reject(malformed("the connection broke off")));
    const finish = (settle: () => void) => {
      clearTimeout(timer);
      incoming.off("data", take);
      incoming.off("end", end);
      settle();
    };
    incoming.on("data", take);
    incoming.on("end", end);
    incoming.on("error", broken);
    incoming.on("close", broken);
  });
}

const utf8 = new TextDecoder("utf-8", { fatal: true });

function decode(bytes: Buffer): string {
  try {
    return utf8.decode(bytes);
  } catch {
    // The decoder only says that it failed.
    throw malformed("is not valid UTF-8");
  }
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw malformed(
      cause instanceof Error ? cause.message.slice(0, 200) : "is not JSON",
    );
  }
}

function malformed(what: string): HttpError {
  return new HttpError(400, `Cannot read the body: ${what}`, {
    reason: "invalid_json",
  });
}

function tooLarge(bytesMax: number): HttpError {
  return new HttpError(
    413,
    `Cannot read the body: at most ${bytesMax} bytes are taken`,
    {
      reason: "payload_too_large",
      // The rest of the body is not read, so the connection cannot be used again.
      headers: { connection: "close" },
    },
  );
}

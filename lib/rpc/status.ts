import { Metadata, type ServiceError, status } from "@grpc/grpc-js";
import type { StreamError } from "../../proto/gen/quetzal/v1/common.ts";
import { Code, MeshError } from "../errors/mesh_error.ts";

const knownCodes = new Set<number>(Object.values(Code));

function asCode(value: number): Code {
  return knownCodes.has(value) ? value as Code : Code.internal;
}

/** A failure as the last message of a stream. */
export function toStreamError(reason: unknown): StreamError {
  const error = MeshError.from(reason);
  return {
    code: error.code,
    message: error.message,
    field: error.field ?? "",
    retryAfterMs: error.retryAfterMs ?? 0,
  };
}

/** An in-band failure as the error it was at the other side. */
export function fromStreamError(error: StreamError): MeshError {
  return new MeshError(asCode(error.code), error.message, {
    field: error.field || undefined,
    retryAfterMs: error.retryAfterMs || undefined,
  });
}

/** Trailing metadata of a failed unary call, which has no message to put them in. */
const fieldKey = "quetzal-field";
const retryKey = "quetzal-retry-after-ms";

/** What grpc-js sends for a unary call that failed. */
export function toServiceError(
  reason: unknown,
): { code: number; details: string; metadata: Metadata } {
  const error = MeshError.from(reason);
  const metadata = new Metadata();
  // Metadata are ASCII, and a field may be named as a stranger wrote it.
  if (error.field) metadata.set(fieldKey, encodeURIComponent(error.field));
  if (error.retryAfterMs) metadata.set(retryKey, `${error.retryAfterMs}`);
  return { code: error.code, details: error.message, metadata };
}

/**
 * A status of the wire. `UNAVAILABLE` covers both a peer that says so and one
 * that cannot be reached or died; `cause` tells them apart for logs.
 */
export function fromServiceError(error: ServiceError): MeshError {
  const header = (key: string) => error.metadata?.get(key)[0]?.toString();
  return new MeshError(asCode(error.code), error.details || error.message, {
    cause: error,
    field: decoded(header(fieldKey)),
    retryAfterMs: Number(header(retryKey)) || undefined,
  });
}

function decoded(field: string | undefined): string | undefined {
  try {
    return field && decodeURIComponent(field);
  } catch {
    // Not encoded by us: as it came it names the field best.
    return field;
  }
}

/** What ended a stream that was not ended by us. */
export function fromCallError(error: Error): MeshError {
  if (isServiceError(error)) return fromServiceError(error);
  return new MeshError(Code.unavailable, "The stream broke off", {
    cause: error,
  });
}

function isServiceError(reason: unknown): reason is ServiceError {
  return reason instanceof Error && "code" in reason && "details" in reason &&
    typeof reason.code === "number" && reason.code in status;
}

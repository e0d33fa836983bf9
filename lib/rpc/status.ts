import { type ServiceError, status } from "@grpc/grpc-js";
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

/** What grpc-js sends for a unary call that failed. */
export function toServiceError(
  reason: unknown,
): { code: number; details: string } {
  const error = MeshError.from(reason);
  return { code: error.code, details: error.message };
}

/**
 * A status of the wire. `UNAVAILABLE` covers both a peer that says so and one
 * that cannot be reached or died; `cause` tells them apart for logs.
 */
export function fromServiceError(error: ServiceError): MeshError {
  return new MeshError(asCode(error.code), error.details || error.message, {
    cause: error,
  });
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

import { Code, MeshError } from "../../../lib/errors/mesh_error.ts";

/**
 * What a client is told of a failure. The text of an internal one, ours or a
 * worker's, may name paths, addresses and code: it is for our log, where the
 * request's id finds it.
 */
export function clientFailure(reason: unknown, requestId: string): MeshError {
  const error = MeshError.from(reason);
  if (error.code !== Code.internal) return error;
  return new MeshError(
    Code.internal,
    `Cannot answer request "${requestId}": an internal error`,
    { cause: reason },
  );
}

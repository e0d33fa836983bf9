import {
  type Code,
  MeshError,
  type MeshErrorOptions,
} from "../../../lib/errors/mesh_error.ts";

export interface RequestErrorOptions extends MeshErrorOptions {
  reason?: RefusalReason;
}

/** Machine-readable reasons; OpenAI clients see them as `error.code`. */
export type RefusalReason =
  | "context_length_exceeded"
  | "model_not_found"
  | "model_not_ready"
  | "unknown_field"
  | "unsupported_field"
  | "invalid_value"
  | "invalid_json"
  | "payload_too_large"
  | "queue_full"
  | "no_worker";

/** A request the router itself refuses; `reason` lets a program tell the cases apart. */
export class RequestError extends MeshError {
  readonly reason: RefusalReason | undefined;

  constructor(code: Code, message: string, options: RequestErrorOptions = {}) {
    super(code, message, options);
    this.reason = options.reason;
  }
}

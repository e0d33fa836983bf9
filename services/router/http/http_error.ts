import { Code } from "../../../lib/errors/mesh_error.ts";
import { clientFailure, RequestError } from "../core/mod.ts";

/** A refusal that only HTTP knows, such as 405. */
export class HttpError extends Error {
  override readonly name = "HttpError";
  readonly status: number;
  readonly reason: string;
  readonly headers: Readonly<Record<string, string>>;

  constructor(
    status: number,
    message: string,
    { reason, headers = {} }: {
      reason: string;
      headers?: Readonly<Record<string, string>>;
    },
  ) {
    super(message);
    this.status = status;
    this.reason = reason;
    this.headers = headers;
  }
}

/** OpenAI's error body. */
export interface ErrorBody {
  readonly error: {
    readonly message: string;
    readonly type: string;
    readonly param: string | null;
    readonly code: string | null;
  };
}

export interface ErrorAnswer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: ErrorBody;
}

/** Any failure of the request with that id as an HTTP answer. */
export function errorAnswer(reason: unknown, requestId: string): ErrorAnswer {
  if (reason instanceof HttpError) {
    const { status, message, headers } = reason;
    return {
      status,
      headers,
      body: body(message, typeOf(status), null, reason.reason),
    };
  }
  const error = clientFailure(reason, requestId);
  const status = statusOf(error.code);
  const code = error instanceof RequestError ? error.reason : undefined;
  const retryMs = error.retryAfterMs ??
    (retryable.has(status) ? 1_000 : undefined);
  return {
    status,
    headers: retryMs === undefined
      ? {}
      : { "retry-after": String(Math.ceil(retryMs / 1_000)) },
    body: body(
      error.message,
      typeOf(status),
      error.field || null,
      code ?? defaultCode(status),
    ),
  };
}

const retryable: ReadonlySet<number> = new Set([429, 503]);

function body(
  message: string,
  type: string,
  param: string | null,
  code: string | null,
): ErrorBody {
  return { error: { message, type, param, code } };
}

function statusOf(code: Code): number {
  switch (code) {
    case Code.invalidArgument:
    case Code.failedPrecondition:
      return 400;
    case Code.permissionDenied:
      return 403;
    case Code.notFound:
      return 404;
    case Code.resourceExhausted:
      return 429;
    case Code.cancelled:
      return 499;
    case Code.unimplemented:
      return 501;
    case Code.unavailable:
      return 503;
    case Code.deadlineExceeded:
      return 504;
    default:
      return 500;
  }
}

function typeOf(status: number): string {
  if (status === 429) return "rate_limit_error";
  if (status === 404) return "not_found_error";
  return status < 500 ? "invalid_request_error" : "server_error";
}

function defaultCode(status: number): string | null {
  switch (status) {
    case 429:
      return "rate_limit_exceeded";
    case 503:
      return "service_unavailable";
    case 504:
      return "deadline_exceeded";
    case 500:
      return "internal_error";
    default:
      return null;
  }
}

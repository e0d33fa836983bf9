/** Why the API server refused, or did not answer. */
export class KubeError extends Error {
  override readonly name = "KubeError";
  /** HTTP status; 0 when there was no answer. */
  readonly code: number;
  /** `Conflict`, `NotFound`, `Expired`; empty when there was no answer. */
  readonly reason: string;
  readonly retryAfterMs: number | undefined;
  readonly causes: readonly StatusCause[];

  constructor(
    { code, reason = "", message, retryAfterMs, causes = [], cause }: {
      readonly code: number;
      readonly reason?: string;
      readonly message: string;
      readonly retryAfterMs?: number;
      readonly causes?: readonly StatusCause[];
      readonly cause?: unknown;
    },
  ) {
    super(message, { cause });
    this.code = code;
    this.reason = reason;
    this.retryAfterMs = retryAfterMs;
    this.causes = causes;
  }

  get isNotFound(): boolean {
    return this.code === 404;
  }

  /** Somebody else wrote first, or owns a field. */
  get isConflict(): boolean {
    return this.code === 409;
  }

  /** The resource version is older than the server's memory. */
  get isExpired(): boolean {
    return this.code === 410;
  }
}

export interface StatusCause {
  readonly reason?: string;
  readonly message?: string;
  readonly field?: string;
}

/** From the `Status` object that the API server answers with. */
export function fromStatus(
  action: string,
  code: number,
  body: string,
  retryAfter: string | undefined,
): KubeError {
  const status = parseStatus(body);
  return new KubeError({
    code,
    reason: status.reason ?? "",
    message: `Cannot ${action}: ${code} ${
      status.message ?? body.slice(0, 200)
    }`,
    causes: status.details?.causes ?? [],
    ...retryAfter !== undefined && Number.isFinite(+retryAfter) && {
      retryAfterMs: +retryAfter * 1_000,
    },
  });
}

interface Status {
  readonly reason?: string;
  readonly message?: string;
  readonly details?: { readonly causes?: readonly StatusCause[] };
}

function parseStatus(body: string): Status {
  try {
    const value: unknown = JSON.parse(body);
    return typeof value === "object" && value !== null ? value as Status : {};
  } catch {
    // A proxy's page or a cut-off answer: the caller shows its beginning.
    return {};
  }
}

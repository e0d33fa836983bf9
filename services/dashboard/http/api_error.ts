import type { ApiError } from "../api_types.ts";

/** Thrown by handlers; the app answers with it. */
export class HttpProblem extends Error {
  override readonly name = "HttpProblem";
  readonly status: number;
  readonly body: ApiError;
  readonly headers: Readonly<Record<string, string>>;

  constructor(
    status: number,
    { message, reason, field, headers = {} }: {
      message: string;
      reason: string;
      field?: string;
      headers?: Readonly<Record<string, string>>;
    },
  ) {
    super(message);
    this.status = status;
    this.headers = headers;
    this.body = {
      error: { message, reason, ...(field === undefined ? {} : { field }) },
    };
  }
}

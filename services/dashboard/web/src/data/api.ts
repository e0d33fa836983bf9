/** Calls of the dashboard's API. Every failure is one kind of error that a page can show. */
import type { ApiError } from "../../../api_types.ts";

export class ApiFailure extends Error {
  /** 0: nobody answered. */
  readonly status: number;
  readonly field: string | undefined;

  constructor(message: string, status: number, field?: string) {
    super(message);
    this.status = status;
    this.field = field;
  }
}

export async function getJson<T>(
  path: string,
  signal?: AbortSignal,
): Promise<T> {
  return await call<T>(path, { signal });
}

export async function sendJson<T>(
  method: "POST" | "DELETE",
  path: string,
  body: unknown,
): Promise<T> {
  return await call<T>(path, {
    method,
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
  });
}

async function call<T>(path: string, init: RequestInit): Promise<T> {
  let response: Response;
  try {
    response = await fetch(path, init);
  } catch (error) {
    if ((error as Error).name === "AbortError") throw error;
    throw new ApiFailure(
      "Cannot reach the dashboard service: no answer from " + location.host,
      0,
    );
  }
  if (response.ok) return await response.json();
  throw await failureOf(response);
}

/** What an answer that is no 2xx says, whoever wrote it. */
export async function failureOf(response: Response): Promise<ApiFailure> {
  const text = await response.text().catch(() => "");
  try {
    const { error } = JSON.parse(text) as ApiError;
    return new ApiFailure(error.message, response.status, error.field);
  } catch {
    // No JSON of ours: a proxy in between, perhaps.
    const found = text.slice(0, 200) || response.statusText;
    return new ApiFailure(
      `The dashboard service answered ${response.status}: ${found}`,
      response.status,
    );
  }
}

import { HttpProblem } from "./api_error.ts";

/** What the page may ask of the router, and how. */
const paths: Readonly<Record<string, "GET" | "POST">> = {
  "/v1/models": "GET",
  "/v1/chat/completions": "POST",
  "/v1/completions": "POST",
  "/tokenize": "POST",
};

/** Request headers that travel on; cookies and the dashboard's token do not. */
const requestHeaders = ["accept", "content-type", "traceparent"];
const answerHeaders = [
  "content-type",
  "x-request-id",
  "x-trace-id",
  "retry-after",
];

/**
 * Hands a request of the playground to the router and its answer back as it comes, so that the
 * page needs no other origin.
 */
export async function askRouter(
  request: Request,
  { path, routerUrl }: { path: string; routerUrl: string | undefined },
): Promise<Response> {
  const method = Object.hasOwn(paths, path) ? paths[path] : undefined;
  if (method === undefined || request.method !== method) {
    throw new HttpProblem(404, {
      message: `Cannot ask the router: needs ${
        Object.entries(paths).map(([path, method]) => `${method} ${path}`)
          .join(", ")
      }`,
      reason: "not_found",
    });
  }
  if (routerUrl === undefined) {
    throw new HttpProblem(503, {
      message:
        "Cannot ask the router: needs QUETZAL_DASHBOARD_ROUTER_URL, found none",
      reason: "unavailable",
    });
  }
  const headers = new Headers();
  for (const name of requestHeaders) {
    const value = request.headers.get(name);
    if (value !== null) headers.set(name, value);
  }
  const body = method === "POST" ? await request.arrayBuffer() : undefined;
  const answer = await ask(`${routerUrl.replace(/\/+$/, "")}${path}`, {
    method,
    headers,
    body,
    redirect: "manual",
    signal: request.signal,
  });
  const shown = new Headers({ "cache-control": "no-store" });
  for (const name of answerHeaders) {
    const value = answer.headers.get(name);
    if (value !== null) shown.set(name, value);
  }
  return new Response(answer.body, { status: answer.status, headers: shown });
}

async function ask(url: string, init: RequestInit): Promise<Response> {
  try {
    return await fetch(url, init);
  } catch (cause) {
    throw new HttpProblem(502, {
      message: `Cannot ask the router: needs an answer of ${
        new URL(url).origin
      }, found ${(cause as Error).message}`,
      reason: "unavailable",
    });
  }
}

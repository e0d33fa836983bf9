import {
  context,
  propagation,
  ROOT_CONTEXT,
  SpanKind,
  SpanStatusCode,
  trace,
} from "@opentelemetry/api";
import { randomUUID } from "node:crypto";
import { Hono } from "hono";
import type { MiddlewareHandler } from "hono/types";
import { chatCompletions } from "./chat_completions.ts";
import { completions } from "./completions.ts";
import { answerHeaders, type Exchange, type HttpEnv } from "./exchange.ts";
import { errorAnswer, HttpError } from "./http_error.ts";
import type { HttpOptions } from "./http_options.ts";
import { listModels, showModel } from "./models.ts";
import { detokenize, tokenize } from "./tokenize.ts";

type Handler = (
  exchange: Exchange,
  options: HttpOptions,
) => Promise<Response> | Response;

/** Everything the HTTP door answers. */
const routes: readonly (readonly [
  method: "GET" | "POST",
  path: string,
  handler: Handler,
])[] = [
  ["GET", "/v1/models", listModels],
  ["GET", "/v1/models/:model{.+}", showModel],
  ["POST", "/v1/chat/completions", chatCompletions],
  ["POST", "/v1/completions", completions],
  ["POST", "/tokenize", tokenize],
  ["POST", "/detokenize", detokenize],
  ["GET", "/health", health],
  ["GET", "/metrics", metrics],
];

export function createApp(options: HttpOptions): Hono<HttpEnv> {
  const app = new Hono<HttpEnv>();
  app.use(traced);
  for (const [method, path, handler] of routes) {
    app.on(method, path, (exchange) => handler(exchange, options));
    app.all(path, () => {
      throw new HttpError(405, `Cannot answer: ${path} takes ${method}`, {
        reason: "method_not_allowed",
        headers: { allow: method },
      });
    });
  }
  app.notFound((exchange) => failed(exchange, unknownPath(exchange), options));
  app.onError((reason, exchange) => failed(exchange, reason, options));
  return app;
}

/** Names the request and opens its root span; the span ends with the answer's last byte. */
const traced: MiddlewareHandler<HttpEnv> = async (exchange, next) => {
  const { method, path } = exchange.req;
  const { headers } = exchange.env.incoming;
  const caller = propagation.extract(ROOT_CONTEXT, headers);
  const span = trace.getTracer("quetzal.router").startSpan(
    `${method} ${knownPath(path)}`,
    {
      kind: SpanKind.SERVER,
      attributes: { "http.request.method": method, "url.path": path },
    },
    caller,
  );
  const inner = trace.setSpan(caller, span);
  exchange.set("requestId", requestId(headers["x-request-id"]));
  exchange.set("span", span);
  exchange.set("trace", inner);
  for (const [name, value] of Object.entries(answerHeaders(exchange))) {
    exchange.header(name, value);
  }
  try {
    await context.with(inner, next);
  } finally {
    const { outgoing } = exchange.env;
    const status = outgoing.headersSent
      ? outgoing.statusCode
      : exchange.res.status;
    span.setAttribute("http.response.status_code", status);
    if (exchange.error) {
      span.setStatus({
        code: SpanStatusCode.ERROR,
        message: exchange.error.message,
      });
    }
    span.end();
  }
};

const paths: ReadonlySet<string> = new Set(routes.map(([, path]) => path));

/** Paths of clients are unbounded, names of spans must not be. */
function knownPath(path: string): string {
  return paths.has(path) ? path : "*";
}

/** The client's own id when it is short printable text without blanks. */
function requestId(header: string | string[] | undefined): string {
  if (typeof header === "string" && /^[\w.:-]{1,64}$/.test(header)) {
    return header;
  }
  return randomUUID();
}

function failed(
  exchange: Exchange,
  reason: unknown,
  { logger }: HttpOptions,
): Response {
  const { status, headers, body } = errorAnswer(reason);
  if (status === 500) {
    logger.error(
      { err: reason, requestId: exchange.get("requestId") },
      "A request failed",
    );
  }
  return exchange.json(body, status as 400, { ...headers });
}

function unknownPath({ req: { path } }: Exchange): HttpError {
  return new HttpError(404, `Cannot find ${path.slice(0, 200)}`, {
    reason: "not_found",
  });
}

function health(exchange: Exchange, { inference }: HttpOptions): Response {
  if (inference.ready) return exchange.json({ status: "ok" });
  return exchange.json({ status: "no worker can serve now" }, 503);
}

async function metrics(
  exchange: Exchange,
  options: HttpOptions,
): Promise<Response> {
  const { contentType, text } = await options.metrics();
  return exchange.body(text, 200, { "content-type": contentType });
}

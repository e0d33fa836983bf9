import { Hono } from "hono";
import { chatCompletions } from "./chat_completions.ts";
import { completions } from "./completions.ts";
import { embeddings } from "./embeddings.ts";
import type { Exchange, HttpEnv } from "./exchange.ts";
import { errorAnswer, HttpError } from "./http_error.ts";
import type { HttpOptions } from "./http_options.ts";
import { listModels, showModel } from "./models.ts";
import { detokenize, tokenize } from "./tokenize.ts";
import { traced } from "./traced.ts";

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
  ["POST", "/v1/embeddings", embeddings],
  ["POST", "/tokenize", tokenize],
  ["POST", "/detokenize", detokenize],
  ["GET", "/health", health],
  ["GET", "/ready", ready],
  ["GET", "/metrics", metrics],
];

export function createApp(options: HttpOptions): Hono<HttpEnv> {
  const app = new Hono<HttpEnv>();
  app.use(traced(routes.map(([, path]) => path)));
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

function failed(
  exchange: Exchange,
  reason: unknown,
  { logger }: HttpOptions,
): Response {
  const requestId = exchange.get("requestId");
  const { status, headers, body } = errorAnswer(reason, requestId);
  if (status === 500) {
    logger.error({ err: reason, requestId }, "A request failed");
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

/** Takes requests, be it to hold them: what a Service in front has to know. */
function ready(exchange: Exchange, { inference }: HttpOptions): Response {
  if (!inference.draining) return exchange.json({ status: "ok" });
  return exchange.json({ status: "draining" }, 503);
}

async function metrics(
  exchange: Exchange,
  options: HttpOptions,
): Promise<Response> {
  const { contentType, text } = await options.metrics();
  return exchange.body(text, 200, { "content-type": contentType });
}

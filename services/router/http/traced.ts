import { randomUUID } from "node:crypto";
import { INVALID_SPAN_CONTEXT, ROOT_CONTEXT, trace } from "@opentelemetry/api";
import type { MiddlewareHandler } from "hono/types";
import {
  extractContext,
  type OpenSpan,
  startSpan,
} from "../../../lib/telemetry/mod.ts";
import { answerHeaders, type Exchange, type HttpEnv } from "./exchange.ts";

const tracer = trace.getTracer("quetzal.router");

/** Probes come every second and would bury everything else. */
const untraced: ReadonlySet<string> = new Set([
  "/health",
  "/ready",
  "/metrics",
]);

/** Names the request and opens its root span, which ends with the answer's last byte. */
export function traced(paths: readonly string[]): MiddlewareHandler<HttpEnv> {
  const known = new Set(paths);
  return async (exchange, next) => {
    exchange.set("requestId", requestId(exchange.req.header("x-request-id")));
    if (untraced.has(exchange.req.path)) {
      exchange.set("span", trace.wrapSpanContext(INVALID_SPAN_CONTEXT));
      exchange.set("trace", ROOT_CONTEXT);
      setHeaders(exchange);
      return await next();
    }
    using open = startRootSpan(exchange, known);
    exchange.set("span", open.span);
    exchange.set("trace", open.context);
    setHeaders(exchange);
    await open.run(next);
    const status = statusOf(exchange);
    open.span.setAttribute("http.response.status_code", status);
    // A refused request is the caller's failure; a stream may fail behind its 200.
    if (exchange.error && (status >= 500 || status === 200)) {
      open.fail(exchange.error);
    }
  };
}

function startRootSpan(
  exchange: Exchange,
  known: ReadonlySet<string>,
): OpenSpan {
  const { method, path } = exchange.req;
  return startSpan({
    tracer,
    // Paths of clients are unbounded, names of spans must not be.
    name: `${method} ${known.has(path) ? path : "*"}`,
    kind: "server",
    attributes: {
      "http.request.method": method,
      "url.path": path.slice(0, 200),
    },
    parent: extractContext((name) => exchange.req.header(name), ROOT_CONTEXT),
  });
}

function setHeaders(exchange: Exchange): void {
  for (const [name, value] of Object.entries(answerHeaders(exchange))) {
    exchange.header(name, value);
  }
}

/** Streams write to the raw response; everything else is still hono's. */
function statusOf({ env: { outgoing }, res }: Exchange): number {
  return outgoing.headersSent ? outgoing.statusCode : res.status;
}

/** The client's own id when it is short plain text. */
function requestId(header: string | undefined): string {
  return header !== undefined && /^[\w.:-]{1,64}$/.test(header)
    ? header
    : randomUUID();
}

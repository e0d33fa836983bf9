import type { HttpBindings } from "@hono/node-server";
import {
  type Context as Trace,
  isSpanContextValid,
  type Span,
} from "@opentelemetry/api";
import type { Context } from "hono";
import type { RequestScope } from "../core/mod.ts";

/** What the middleware found out about a request. */
export interface HttpVariables {
  /** Ours, or the client's own when that is usable. */
  readonly requestId: string;
  readonly span: Span;
  /** The trace with `span` in it. */
  readonly trace: Trace;
}

export interface HttpEnv {
  readonly Bindings: HttpBindings;
  readonly Variables: HttpVariables;
}

export type Exchange = Context<HttpEnv>;

/** Ends the scope when the client closes the connection before the answer is out. */
export function watchClient(
  { env: { outgoing } }: Exchange,
  scope: RequestScope,
): Disposable {
  const gone = () => {
    if (!outgoing.writableFinished) scope.clientGone();
  };
  outgoing.on("close", gone);
  return { [Symbol.dispose]: () => void outgoing.off("close", gone) };
}

/** Headers of every answer. */
export function answerHeaders(exchange: Exchange): Record<string, string> {
  const spanContext = exchange.get("span").spanContext();
  return {
    "x-request-id": exchange.get("requestId"),
    ...(isSpanContextValid(spanContext)
      ? { "x-trace-id": spanContext.traceId }
      : {}),
  };
}

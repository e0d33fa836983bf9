import { RESPONSE_ALREADY_SENT } from "@hono/node-server/utils/response";
import { answerHeaders, type Exchange } from "./exchange.ts";
import { errorAnswer } from "./http_error.ts";
import type { HttpOptions } from "./http_options.ts";
import { SseResponse } from "./sse_response.ts";

/**
 * Answers with server-sent events. A failure before the first event is thrown
 * and becomes a status; a later one is the stream's last event.
 */
export async function streamEvents(
  exchange: Exchange,
  { keepAliveMs, logger }: HttpOptions,
  run: (sse: SseResponse) => Promise<void>,
): Promise<Response> {
  const headers = answerHeaders(exchange);
  using sse = new SseResponse(exchange.env.outgoing, { headers, keepAliveMs });
  try {
    await run(sse);
    sse.end();
  } catch (reason) {
    if (!sse.started) throw reason;
    const requestId = exchange.get("requestId");
    logger.warn({ err: reason, requestId }, "A stream failed");
    exchange.error = reason as Error;
    sse.fail(errorAnswer(reason, requestId).body);
  }
  return RESPONSE_ALREADY_SENT;
}

import { getRequestListener } from "@hono/node-server";
import { createServer, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { within } from "../../../lib/within/within.ts";
import { createApp } from "./app.ts";
import type { HttpOptions } from "./http_options.ts";

export interface HttpServerOptions extends HttpOptions {
  readonly host: string;
  /** 0 takes any free port. */
  readonly port: number;
}

export interface HttpServer {
  readonly port: number;
  /**
   * Waits until all answers are with their readers, at most `lingerMs`, then ends
   * every connection. Call it when nothing generates any more.
   */
  close(lingerMs: number): Promise<void>;
}

/** Slow headers and bodies are cut off by the server, however they trickle in. */
const limits = {
  headersTimeout: 15_000,
  requestTimeout: 60_000,
  keepAliveTimeout: 65_000,
  maxHeaderSize: 16 * 1_024,
};

export async function startHttpServer(
  options: HttpServerOptions,
): Promise<HttpServer> {
  const { host, port, logger } = options;
  const listener = getRequestListener(createApp(options).fetch, {
    overrideGlobalObjects: false,
    errorHandler(reason) {
      logger.error({ err: reason }, "The HTTP door failed");
      return Response.json({
        error: {
          message: "Cannot read the request",
          type: "invalid_request_error",
          param: null,
          code: null,
        },
      }, { status: 400 });
    },
  });
  const answers = new OpenAnswers();
  const server = createServer(limits, (incoming, outgoing) => {
    answers.add(outgoing);
    return listener(incoming, outgoing);
  });
  await listen(server, host, port);
  return {
    port: (server.address() as AddressInfo).port,
    async close(lingerMs) {
      await answers.written(lingerMs);
      const closed = new Promise<void>((resolve) => {
        if (server.listening) server.close(() => resolve());
        else resolve();
      });
      server.closeAllConnections();
      await closed;
    },
  };
}

/**
 * Answers that are not with the operating system to their last byte. A server asked
 * to close would cut them: to Node and Bun a connection is idle once its answer has
 * been handed over, however much of it a slow reader has left in our memory.
 */
class OpenAnswers {
  readonly #open = new Set<ServerResponse>();
  #allWritten: (() => void) | undefined;

  add(answer: ServerResponse): void {
    this.#open.add(answer);
    answer.once("close", () => {
      this.#open.delete(answer);
      if (this.#open.size === 0) this.#allWritten?.();
    });
  }

  async written(lingerMs: number): Promise<void> {
    if (this.#open.size === 0) return;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#allWritten = resolve;
    await within(lingerMs, promise);
  }
}

function listen(server: Server, host: string, port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once("error", (cause) =>
      reject(
        new Error(
          `Cannot serve HTTP: needs ${host}:${port}, found it refused (${cause.message})`,
          {
            cause,
          },
        ),
      ));
    server.listen(port, host, resolve);
  });
}

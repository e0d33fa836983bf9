import { getRequestListener } from "@hono/node-server";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { createApp } from "./app.ts";
import type { HttpOptions } from "./http_options.ts";

export interface HttpServerOptions extends HttpOptions {
  readonly host: string;
  /** 0 takes any free port. */
  readonly port: number;
}

export interface HttpServer {
  readonly port: number;
  /** Takes no new connections; open ones go on. */
  stopListening(): void;
  /** Ends every connection. */
  close(): Promise<void>;
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
  const server = createServer(limits, listener);
  await listen(server, host, port);
  return {
    port: (server.address() as AddressInfo).port,
    stopListening: () => void server.close(),
    async close() {
      const closed = new Promise<void>((resolve) => {
        if (server.listening) server.close(() => resolve());
        else resolve();
      });
      server.closeAllConnections();
      await closed;
    },
  };
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

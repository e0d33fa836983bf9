import { getRequestListener } from "@hono/node-server";
import type { Hono } from "hono";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";

export interface HttpServer extends AsyncDisposable {
  readonly port: number;
}

const limits = {
  headersTimeout: 15_000,
  requestTimeout: 60_000,
  keepAliveTimeout: 65_000,
  maxHeaderSize: 16 * 1_024,
};

export async function startHttpServer(
  app: Hono,
  { host, port }: { host: string; port: number },
): Promise<HttpServer> {
  const listener = getRequestListener(app.fetch, {
    overrideGlobalObjects: false,
  });
  const server = createServer(limits, listener);
  await new Promise<void>((resolve, reject) => {
    server.once("error", (cause) =>
      reject(
        new Error(
          `Cannot serve the dashboard: needs ${host}:${port}, found it refused (${cause.message})`,
          { cause },
        ),
      ));
    server.listen(port, host, resolve);
  });
  return {
    port: (server.address() as AddressInfo).port,
    async [Symbol.asyncDispose]() {
      const closed = new Promise<void>((resolve) =>
        server.close(() => resolve())
      );
      server.closeAllConnections();
      await closed;
    },
  };
}

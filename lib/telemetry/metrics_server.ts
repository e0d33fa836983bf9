import { createServer, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import type { Registry } from "./registry.ts";

/** `reason` is shown to whoever asks. */
export type Health = { readonly ok: true } | {
  readonly ok: false;
  readonly reason: string;
};

export interface ServeMetricsOptions {
  /** 0 takes a free one. */
  readonly port: number;
  /** All interfaces unless set. */
  readonly host?: string;
  readonly registry: Registry;
  /** Ready for requests; a check that throws counts as not. Always ready unless set. */
  readonly health?: () => Health | Promise<Health>;
}

export interface MetricsServer extends AsyncDisposable {
  readonly port: number;
}

/** Serves `/metrics` for Prometheus and `/health` (200 or 503) for Kubernetes. */
export function serveMetrics(
  { port, host = "0.0.0.0", registry, health }: ServeMetricsOptions,
): Promise<MetricsServer> {
  const pages: Record<string, (response: ServerResponse) => Promise<void>> = {
    async "/metrics"(response) {
      const text = await registry.metrics();
      response.setHeader("content-type", registry.contentType);
      response.end(text);
    },
    async "/health"(response) {
      const answer = await health?.() ?? { ok: true as const };
      response.statusCode = answer.ok ? 200 : 503;
      response.setHeader("content-type", "application/json");
      response.end(`${JSON.stringify(answer)}\n`);
    },
  };

  const server = createServer((request, response) => {
    const path = request.url?.split("?")[0] ?? "";
    const page = Object.hasOwn(pages, path) ? pages[path] : undefined;
    if (!page || !["GET", "HEAD"].includes(request.method ?? "")) {
      response.statusCode = page ? 405 : 404;
      return void response.end();
    }
    page(response).catch((error: Error) => {
      response.statusCode = path === "/health" ? 503 : 500;
      response.end(`${error.message}\n`);
    });
  });

  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(port, host, () => {
      server.off("error", reject);
      resolve({
        port: (server.address() as AddressInfo).port,
        [Symbol.asyncDispose]: () =>
          new Promise((closed) => {
            server.close(() => closed());
            server.closeAllConnections();
          }),
      });
    });
  });
}

import { createServer } from "node:net";
import type { AddressInfo } from "node:net";

/**
 * A TCP port of 127.0.0.1 nobody listens on now.
 *
 * Another process may take it before the caller does: prefer port 0 where the
 * server can say which port it got.
 */
export function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once("error", reject);
    server.listen(0, "127.0.0.1", () => {
      const { port } = server.address() as AddressInfo;
      server.close(() => resolve(port));
    });
  });
}

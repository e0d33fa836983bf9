import { type AddressInfo, connect, createServer, type Socket } from "node:net";

/** Passes bytes on until it is broken: as a process that was killed looks from outside. */
export interface BreakableProxy extends Disposable {
  readonly port: number;
  /** Where connections lead from now on. */
  targetPort: number;
  /** Cuts all connections and takes no more. */
  break(): void;
}

export async function startBreakableProxy(): Promise<BreakableProxy> {
  const sockets = new Set<Socket>();
  const keep = (socket: Socket) => {
    sockets.add(socket);
    // A cut connection is what this proxy is for.
    socket.on("error", () => socket.destroy());
    socket.on("close", () => sockets.delete(socket));
  };
  const server = createServer((incoming) => {
    const outgoing = connect(proxy.targetPort, "127.0.0.1");
    keep(incoming);
    keep(outgoing);
    incoming.pipe(outgoing).pipe(incoming);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const end = () => {
    server.close();
    for (const socket of sockets) socket.resetAndDestroy();
  };
  const proxy: BreakableProxy = {
    port: (server.address() as AddressInfo).port,
    targetPort: 0,
    break: end,
    [Symbol.dispose]: end,
  };
  return proxy;
}

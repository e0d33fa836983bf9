import type { Socket } from "node:net";
import { NodeTransport } from "@nats-io/transport-node/lib/node_transport.js";

/**
 * Keeps an error listener on every socket of the NATS client.
 *
 * The client takes all listeners off a socket it gives up. A reset that arrives afterwards is then an
 * error nobody hears, which ends the process: under Deno 2.9.3 it happened at 5 of 100
 * refused logins (223 of 4,160). The client itself notices the loss by the `close` event or its pings.
 */
export function guardSockets(): void {
  if (guarded) return;
  guarded = true;
  const { prototype } = NodeTransport;
  const { dial, tlsFirst, startTLS } = prototype;
  prototype.dial = async function (host) {
    return keepListening(await dial.call(this, host));
  };
  prototype.tlsFirst = async function (host) {
    return keepListening(await tlsFirst.call(this, host));
  };
  prototype.startTLS = async function () {
    return keepListening(await startTLS.call(this));
  };
}

let guarded = false;

function keepListening<S extends Socket>(socket: S): S {
  const removeAll = socket.removeAllListeners.bind(socket);
  // Spread, for an explicit `undefined` would name an event of that name.
  socket.removeAllListeners = (...events: Parameters<typeof removeAll>) => {
    removeAll(...events);
    return socket.on("error", ignore);
  };
  return socket.on("error", ignore);
}

/** Quiet on purpose: see above. */
function ignore(): void {}

import type {
  Msg,
  NatsConnection,
  Subscription,
} from "@nats-io/transport-node";

/** Hears every message of a subject; `undefined` once the connection is closing. */
export function subscribe(
  nc: NatsConnection,
  subject: string,
  callback: (error: Error | null, message: Msg) => void,
): Subscription | undefined {
  if (nc.isClosed() || nc.isDraining()) return undefined;
  return nc.subscribe(subject, { callback });
}

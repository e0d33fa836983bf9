import { headers, type MsgHdrs } from "@nats-io/transport-node";
import { hasActiveSpan, type HeaderBag, injectTrace } from "./trace_context.ts";

/** Headers that carry the active span; `undefined` when there is none. */
export function traceHeaders(): MsgHdrs | undefined {
  if (!hasActiveSpan()) return undefined;
  const bag = headers();
  injectTrace(asBag(bag));
  return bag;
}

export function asBag(bag: MsgHdrs): HeaderBag {
  return {
    get: (name) => bag.get(name),
    set: (name, value) => bag.set(name, value),
    keys: () => bag.keys(),
  };
}

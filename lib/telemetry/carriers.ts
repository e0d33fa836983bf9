import { type Context, context, propagation } from "@opentelemetry/api";

/**
 * Writes `traceparent` and its companions into whatever carries a request:
 * `injectContext((name, value) => metadata.set(name, value))`. Writes nothing outside a trace.
 */
export function injectContext(
  set: (name: string, value: string) => void,
  from: Context = context.active(),
): void {
  propagation.inject(from, undefined, {
    set: (_carrier, name, value) => set(name, value),
  });
}

/**
 * Reads them back: `extractContext((name) => metadata.get(name)[0]?.toString())`.
 * A missing or malformed header leaves the trace out, not the request.
 */
export function extractContext(
  get: (name: string) => string | undefined,
  onto: Context = context.active(),
): Context {
  return propagation.extract(onto, undefined, {
    get: (_carrier, name) => get(name),
    keys: () => propagation.fields(),
  });
}

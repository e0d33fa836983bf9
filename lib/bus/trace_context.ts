import {
  type Context,
  context,
  propagation,
  ROOT_CONTEXT,
  trace,
} from "@opentelemetry/api";

/** Headers of a message; NATS headers fit, and so does a plain `Map`. */
export interface HeaderBag {
  get(name: string): string | undefined;
  set(name: string, value: string): void;
  keys(): Iterable<string>;
}

/** True when a message sent now belongs to a trace. */
export function hasActiveSpan(): boolean {
  return trace.getActiveSpan() !== undefined;
}

/** Writes `traceparent` and its companions of the active span. */
export function injectTrace(headers: HeaderBag): void {
  propagation.inject(context.active(), headers, {
    set: (bag, name, value) => bag.set(name, value),
  });
}

export function extractTrace(headers: HeaderBag): Context {
  return propagation.extract(ROOT_CONTEXT, headers, {
    get: (bag, name) => bag.get(name) || undefined,
    keys: (bag) => [...bag.keys()],
  });
}

/**
 * The trace a received message belongs to, to parent or link a span:
 * `tracer.startActiveSpan("wake", {}, traceContextOf(message), …)`. The root context
 * when its sender had no active span.
 */
export function traceContextOf(message: object): Context {
  return contexts.get(message) ?? ROOT_CONTEXT;
}

export function rememberTrace(message: object, headers: HeaderBag): void {
  contexts.set(message, extractTrace(headers));
}

// Beside the messages rather than in them: they stay plain values of their type.
const contexts = new WeakMap<object, Context>();

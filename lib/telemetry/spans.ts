import {
  type Attributes,
  type Context,
  context,
  type Link,
  type Span,
  SpanKind,
  SpanStatusCode,
  trace,
  type Tracer,
} from "@opentelemetry/api";
import { Code, MeshError } from "../errors/mesh_error.ts";
import { Keys } from "./attributes.ts";

export interface SpanInit {
  readonly tracer: Tracer;
  readonly name: string;
  readonly attributes?: Attributes;
  /** "internal" unless set. */
  readonly kind?: keyof typeof kinds;
  /** The active context unless set. */
  readonly parent?: Context;
  readonly links?: Link[];
}

const kinds = {
  internal: SpanKind.INTERNAL,
  server: SpanKind.SERVER,
  client: SpanKind.CLIENT,
  producer: SpanKind.PRODUCER,
  consumer: SpanKind.CONSUMER,
};

/** A span that is open beyond one function: `using open = startSpan({ … })`. */
export interface OpenSpan extends Disposable {
  readonly span: Span;
  /** The parent of what belongs under this span. */
  readonly context: Context;
  /** Runs `work` with this span active. */
  run<T>(work: () => T): T;
  /** Records why it failed; a cancelled request did not fail. */
  fail(reason: unknown): void;
  /** Ends it; a second call does nothing. */
  end(): void;
}

export function startSpan(
  { tracer, name, attributes, kind = "internal", parent, links }: SpanInit,
): OpenSpan {
  const above = parent ?? context.active();
  const options = { attributes, kind: kinds[kind], links };
  const span = tracer.startSpan(name, options, above);
  const own = trace.setSpan(above, span);
  let isOpen = true;
  const end = () => {
    if (isOpen) span.end();
    isOpen = false;
  };
  return {
    span,
    context: own,
    run: (work) => context.with(own, work),
    fail: (reason) => markFailed(span, reason),
    end,
    [Symbol.dispose]: end,
  };
}

/** Runs `work` inside a span that ends with it, also when it throws or rejects. */
export function withSpan<T>(init: SpanInit, work: (span: Span) => T): T {
  const open = startSpan(init);
  const failed = (reason: unknown): never => {
    open.fail(reason);
    open.end();
    throw reason;
  };
  try {
    const result = open.run(() => work(open.span));
    if (result instanceof Promise) {
      const ended = result.then((value) => {
        open.end();
        return value;
      }, failed);
      return ended as T;
    }
    open.end();
    return result;
  } catch (reason) {
    return failed(reason);
  }
}

const codeNames = new Map<number, string>(
  Object.entries(Code).map(([name, code]) => [code, name]),
);

function markFailed(span: Span, reason: unknown): void {
  if (!span.isRecording()) return;
  const isMesh = reason instanceof MeshError;
  const name = reason instanceof Error ? reason.name : "unknown";
  const type = isMesh ? codeNames.get(reason.code) ?? name : name;
  span.setAttribute(Keys.errorType, type);
  const isCancelled = type === "cancelled" || name === "AbortError";
  if (isCancelled) return;
  const error = reason instanceof Error ? reason : new Error(String(reason));
  span.recordException(error);
  span.setStatus({ code: SpanStatusCode.ERROR, message: error.message });
}

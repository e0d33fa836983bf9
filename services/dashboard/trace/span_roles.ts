/** Which span of a trace is which; the names are those that router and workers give. */
import { Keys } from "../../../lib/telemetry/attributes.ts";
import type { Span } from "../api_types.ts";
import { endOf, textOf } from "./attributes_of.ts";

export interface TraceSpans {
  /** Ordered by start. */
  readonly all: readonly Span[];
  readonly root: Span | undefined;
  /** One per sequence: "chat <model>". */
  readonly generations: readonly Span[];
  readonly routes: readonly Span[];
  readonly tokenizes: readonly Span[];
  /** Decode calls as the router sees them. */
  readonly calls: readonly Span[];
  /** And as the workers see them. */
  readonly decodes: readonly Span[];
  readonly transfers: readonly Span[];
  readonly prefills: readonly Span[];
  readonly startAtMs: number;
  readonly endAtMs: number;
}

export function sortOut(spans: readonly Span[]): TraceSpans {
  const all = inOrder(spans);
  const named = (service: string, name: string) =>
    all.filter((span) => span.name === name && span.service === service);
  return {
    all,
    root: rootOf(all),
    generations: all.filter(isGeneration),
    routes: named("router", "route"),
    tokenizes: named("router", "tokenize"),
    calls: named("router", "decode"),
    decodes: named("decode", "decode.generate"),
    transfers: named("decode", "kv.fetch"),
    prefills: named("prefill", "prefill.run"),
    startAtMs: all[0]?.startAtMs ?? 0,
    endAtMs: all.reduce((end, span) => Math.max(end, endOf(span)), 0),
  };
}

function isGeneration({ service, attributes }: Span): boolean {
  return service === "router" &&
    textOf(attributes, Keys.operationName) !== null;
}

/**
 * The span that the trace began with here. A client may have sent a trace of its own, whose span
 * never comes to us: then it is the router's door.
 */
function rootOf(all: readonly Span[]): Span | undefined {
  const top = all.find(({ parentSpanId }) => parentSpanId === null);
  if (top !== undefined) return top;
  const ids = new Set(all.map(({ spanId }) => spanId));
  return all.find((span) =>
    span.kind === "server" && span.service === "router" &&
    !ids.has(span.parentSpanId!)
  );
}

/** By start; where clocks say the same, parents before their children. */
function inOrder(spans: readonly Span[]): Span[] {
  const sorted = spans.toSorted((a, b) => a.startAtMs - b.startAtMs);
  const depths = new Map<string, number>();
  const byId = new Map(sorted.map((span) => [span.spanId, span]));
  const depthOf = (span: Span): number => {
    let depth = 0;
    let at: Span | undefined = span;
    // A sender may name a circle of parents.
    while (at?.parentSpanId != null && depth < 64) {
      at = byId.get(at.parentSpanId);
      depth++;
    }
    return depth;
  };
  for (const span of sorted) depths.set(span.spanId, depthOf(span));
  return sorted.sort((a, b) =>
    a.startAtMs - b.startAtMs || depths.get(a.spanId)! - depths.get(b.spanId)!
  );
}

/** What every request's trace has in common: the tracer, and the search for a worker. */
import { type Context, type Span, trace } from "@opentelemetry/api";
import { Code, type MeshError } from "../../../lib/errors/mesh_error.ts";
import {
  Keys,
  type ModelRequestMetrics,
  startSpan,
} from "../../../lib/telemetry/mod.ts";
import type { Lease } from "./dispatcher.ts";
import type { ScoredCandidate } from "./route.ts";

export const tracer = trace.getTracer("quetzal.router");

/** Queueing and the choice of workers. */
export interface RouteTrace {
  placed(lease: Lease): void;
  failed(reason: unknown): void;
}

export function startRoute({ attempt, parent, metrics, onPlaced }: {
  readonly attempt: number;
  readonly parent: Context;
  readonly metrics: ModelRequestMetrics;
  readonly onPlaced: (lease: Lease) => void;
}): RouteTrace {
  const open = startSpan({
    tracer,
    name: "route",
    attributes: { [Keys.routingAttempt]: attempt },
    parent,
  });
  metrics.waiting.inc();
  return {
    placed(lease) {
      metrics.waiting.dec();
      onPlaced(lease);
      describeRoute(open.span, lease);
      open.end();
    },
    failed(reason) {
      metrics.waiting.dec();
      open.fail(reason);
      open.end();
    },
  };
}

/** Every candidate with what it was judged by, so that a choice can be explained later. */
function describeRoute(
  span: Span,
  { worker, prefill, decision, heldMs }: Lease,
): void {
  if (!span.isRecording()) return;
  const { role, workerId } = worker.record;
  // An embedding may run on a prefill worker alone.
  const prefillId = role === "prefill" ? workerId : prefill?.record.workerId;
  span.setAttributes({
    [Keys.routingPolicy]: decision.policy,
    [Keys.queueWaitMs]: heldMs,
    "quetzal.routing.decode_worker": role === "decode" ? workerId : "",
    "quetzal.routing.prefill_worker": prefillId ?? "",
    "quetzal.routing.prefill_reason": decision.prefillReason,
    "quetzal.routing.uncached_tokens": decision.uncachedTokens,
  });
  const describe = (role: string) => (candidate: ScoredCandidate) =>
    span.addEvent("candidate", {
      [Keys.workerRole]: role,
      [Keys.workerId]: candidate.workerId,
      "quetzal.routing.score": candidate.score,
      "quetzal.routing.load": candidate.load,
      "quetzal.routing.matched_tokens": candidate.matchedTokens,
      "quetzal.routing.blocks_free": candidate.blocksFree,
    });
  decision.decode.forEach(describe("decode"));
  decision.prefill.forEach(describe("prefill"));
}

/** The search for a place, told to its trace. */
export async function tracedSearch(
  trace: RouteTrace,
  search: () => Promise<Lease> | Lease,
): Promise<Lease> {
  try {
    const lease = await search();
    trace.placed(lease);
    return lease;
  } catch (reason) {
    trace.failed(reason);
    throw reason;
  }
}

/** A caller that went away has ended its request; all else is a failure by its code. */
export function countFailure(
  metrics: ModelRequestMetrics,
  { code }: MeshError,
): void {
  if (code === Code.cancelled) metrics.succeeded("abort");
  else metrics.failed(codeName(code));
}

function codeName(code: Code): string {
  return Object.entries(Code).find(([, value]) => value === code)?.[0] ??
    "unknown";
}

import { Keys } from "../../../lib/telemetry/attributes.ts";
import type { MeshEdge, Span } from "../api_types.ts";
import { numberOf, textOf } from "../trace/attributes_of.ts";
import { sortOut } from "../trace/span_roles.ts";

const windowMs = 60_000;
const edgesMax = 2_000;

interface Call {
  readonly key: string;
  readonly edge: Pick<MeshEdge, "from" | "to" | "kind">;
  readonly bytes: number;
  readonly failed: boolean;
  readonly atMs: number;
}

/** Who called whom in the last minute, read from traces as they complete. */
export class MeshEdges {
  #calls: Call[] = [];
  #forgotten = 0;

  add(spans: readonly Span[], nowMs: number): void {
    const { root, calls, transfers, prefills, decodes } = sortOut(spans);
    const router = root?.service === "router" ? root : calls[0];
    const routerId = router?.instance ?? "router";
    if (root?.service === "router") {
      this.#add("request", ["clients", routerId], root, nowMs);
    }
    for (const call of calls) {
      const to = textOf(call.attributes, Keys.workerId);
      if (to !== null) this.#add("decode", [routerId, to], call, nowMs);
    }
    for (const transfer of transfers) {
      const from = prefills.find((run) => run.parentSpanId === transfer.spanId)
        ?.instance;
      const to = transfer.instance ?? decodes[0]?.instance;
      if (from && to) this.#add("kv", [from, to], transfer, nowMs);
    }
  }

  edges(nowMs: number): MeshEdge[] {
    this.#forget(nowMs);
    return [...Map.groupBy(this.#calls.slice(this.#forgotten), (c) => c.key)]
      .slice(0, edgesMax)
      .map(([, calls]) => ({
        ...calls[0].edge,
        callsPerS: calls.length / (windowMs / 1_000),
        bytesPerS: calls[0].edge.kind === "kv"
          ? calls.reduce((sum, { bytes }) => sum + bytes, 0) /
            (windowMs / 1_000)
          : null,
        errors: calls.filter(({ failed }) => failed).length,
      }));
  }

  #add(
    kind: MeshEdge["kind"],
    [from, to]: readonly [string, string],
    span: Span,
    atMs: number,
  ): void {
    this.#calls.push({
      key: `${kind}\n${from}\n${to}`,
      edge: { from, to, kind },
      bytes: numberOf(span.attributes, Keys.kvBytes) ?? 0,
      failed: span.status === "error",
      atMs,
    });
    this.#forget(atMs);
  }

  #forget(nowMs: number): void {
    const calls = this.#calls;
    while (
      this.#forgotten < calls.length &&
      (calls[this.#forgotten].atMs < nowMs - windowMs ||
        calls.length - this.#forgotten > 200_000)
    ) this.#forgotten++;
    if (this.#forgotten < 10_000 && this.#forgotten < calls.length) return;
    this.#calls = calls.slice(this.#forgotten);
    this.#forgotten = 0;
  }
}

import { deepEqual, equal } from "node:assert/strict";
import { test } from "vitest";
import type { Span, TraceDetail } from "../../../api_types.ts";
import { waterfallRows } from "./waterfall_rows.ts";

function span(spanId: string, parentSpanId: string | null): Span {
  return {
    spanId,
    parentSpanId,
    name: spanId,
    service: "router",
    instance: null,
    kind: "internal",
    startAtMs: 1_000,
    durationMs: 5,
    status: "unset",
    statusMessage: null,
    attributes: {},
    events: [],
    links: [],
  };
}

function detail(spans: readonly Span[]): TraceDetail {
  return {
    summary: { startAtMs: 990 } as TraceDetail["summary"],
    spans,
    phases: [],
    routes: [],
    prefills: [],
    transfers: [],
    decodes: [],
    tokens: null,
    content: null,
    spansLeftOut: 0,
  };
}

const shape = (spans: readonly Span[]) =>
  waterfallRows(detail(spans)).map(({ key, depth }) => `${depth} ${key}`);

test("children follow their parent, one level deeper", () => {
  deepEqual(
    shape([span("a", null), span("b", "a"), span("d", "a"), span("c", "b")]),
    ["0 a", "1 b", "2 c", "1 d"],
  );
});

test("a span whose parent is missing is a root and says so", () => {
  const rows = waterfallRows(detail([span("a", null), span("b", "lost")]));
  deepEqual(rows.map(({ depth, orphan }) => [depth, orphan]), [
    [0, false],
    [0, true],
  ]);
});

test("spans that are each other's parents are all shown, once", () => {
  deepEqual(shape([span("a", "b"), span("b", "a"), span("c", "c")]), [
    "0 a",
    "1 b",
    "0 c",
  ]);
});

test("a chain of 20,000 spans is no recursion", () => {
  const chain = Array.from(
    { length: 20_000 },
    (_, i) => span(`s${i}`, i === 0 ? null : `s${i - 1}`),
  );
  equal(shape(chain).length, 20_000);
});

test("times are relative to the start of the trace", () => {
  equal(waterfallRows(detail([span("a", null)]))[0].startMs, 10);
});

test("steps come from the tokens of their attempt, one per step", () => {
  const trace: TraceDetail = {
    ...detail([span("a", null)]),
    decodes: [
      {
        spanId: "a",
        attempt: 2,
        steps: [],
        stepCount: 2,
      } as unknown as TraceDetail["decodes"][number],
    ],
    tokens: {
      count: 4,
      offsetMs: [10, 20, 20, 30],
      latencyMs: [8, 6, 0, 9],
      provenance: [0, 0, 0, 0],
      provenanceNames: ["plain"],
      step: [0, 1, 1, 2],
      batchSize: [1, 2, 2, 3],
      stepMs: [4, 9, 9, 5],
      attempt: [1, 2, 2, 2],
      ids: null,
      texts: null,
      complete: true,
    },
  };
  const { parts, label } = waterfallRows(trace)[1];
  equal(label, "2 decode steps");
  deepEqual(
    parts!.map((part) => [part.startMs, part.durationMs, part.label()]),
    [
      [14, 6, "step 1: 9 ms, batch of 2"],
      [25, 5, "step 2: 5 ms, batch of 3"],
    ],
  );
});

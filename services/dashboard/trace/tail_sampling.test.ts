import { deepEqual, equal, ok } from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { test } from "vitest";
import type { TraceSummary } from "../api_types.ts";
import { plainRequest } from "../testing/spans.ts";
import { summarize } from "./summarize.ts";
import { TailSampling } from "./tail_sampling.ts";

function trace(fields: Partial<TraceSummary> = {}): TraceSummary {
  const traceId = randomBytes(16).toString("hex");
  const { spans } = plainRequest({ traceId, startAtMs: 1, durationMs: 10 });
  return { ...summarize(traceId, spans), ...fields };
}

const nothing = { ratio: 0, tracesPerS: 1_000, slowestPerMinute: 0 };

test("errors, cancelled and replayed requests are kept whatever the ratio", () => {
  const sampling = new TailSampling(nothing);
  for (let i = 0; i < 1_000; i++) {
    equal(sampling.keep(trace({ status: "error" }), 0), "error");
    equal(sampling.keep(trace({ status: "cancelled" }), 0), "error");
    equal(sampling.keep(trace({ attempts: 2 }), 0), "replayed");
    equal(sampling.keep(trace(), 0), undefined);
  }
});

test("the slowest of each model and minute are kept, in any order of arrival", () => {
  const sampling = new TailSampling({ ...nothing, slowestPerMinute: 5 });
  for (let minute = 0; minute < 20; minute++) {
    const kept = new Map<string, number[]>();
    const all = new Map<string, number[]>();
    for (let i = 0; i < 400; i++) {
      const model = i % 2 === 0 ? "a" : "b";
      const durationMs = Math.random();
      all.set(model, [...all.get(model) ?? [], durationMs]);
      if (sampling.keep(trace({ model, durationMs }), minute * 60_000 + i)) {
        kept.set(model, [...kept.get(model) ?? [], durationMs]);
      }
    }
    for (const [model, durations] of all) {
      const slowest = durations.toSorted((a, b) => b - a).slice(0, 5);
      const found = kept.get(model)!;
      ok(slowest.every((ms) => found.includes(ms)), `minute ${minute}`);
      ok(found.length < 60, `${found.length} of 200 are kept`);
    }
  }
});

test("the ratio is kept, and every sampler keeps the same traces", () => {
  const config = { ratio: 0.25, tracesPerS: 1e9, slowestPerMinute: 0 };
  const [a, b] = [new TailSampling(config), new TailSampling(config)];
  const traces = Array.from({ length: 4_000 }, () => trace());
  const kept = traces.map((t) => a.keep(t, 0) !== undefined);
  deepEqual(traces.map((t) => b.keep(t, 0) !== undefined), kept);
  const share = kept.filter(Boolean).length / traces.length;
  ok(share > 0.2 && share < 0.3, `${share}`);
});

test("a flood is cut to the budget, errors are not", () => {
  const sampling = new TailSampling({
    ratio: 1,
    tracesPerS: 10,
    slowestPerMinute: 0,
  });
  let kept = 0;
  for (let ms = 0; ms < 10_000; ms++) {
    if (sampling.keep(trace(), ms)) kept++;
    equal(sampling.keep(trace({ status: "error" }), ms), "error");
  }
  ok(kept >= 100 && kept <= 111, `${kept}`);
});

import { deepEqual, equal } from "node:assert/strict";
import { test } from "vitest";
import { Code, MeshError } from "../../../lib/errors/mesh_error.ts";
import { TrafficMeter } from "./traffic_meter.ts";

test("take() reports each active model once per window, then starts anew", () => {
  let nowMs = 1_000;
  let held = 0;
  const meter = new TrafficMeter({
    routerId: "r",
    heldCount: () => held,
    nowMs: () => nowMs,
  });
  deepEqual(meter.take(), []);
  const sequences = [10, 20, 30].map((tokens) => {
    nowMs += 100;
    return meter.begin("m", tokens);
  });
  held = 1;
  nowMs = 2_000;
  const zero = {
    routerId: "r",
    model: "m",
    completions: 0,
    failures: 0,
    generatedTokens: 0,
  };
  deepEqual(meter.take(), [{
    ...zero,
    atMs: 2_000,
    windowMs: 1_000,
    arrivals: 3,
    promptTokens: 60,
    held: 1,
    running: 2,
    samples: [
      { offsetMs: 100, promptTokens: 10 },
      { offsetMs: 200, promptTokens: 20 },
      { offsetMs: 300, promptTokens: 30 },
    ],
  }]);
  held = 0;
  sequences[0].end(undefined, 7);
  sequences[1].end(new MeshError(Code.unavailable, "died"), 2);
  sequences[2].end(new MeshError(Code.cancelled, "client left"), 1);
  nowMs = 2_500;
  const [report] = meter.take();
  deepEqual(
    [
      report.arrivals,
      report.completions,
      report.failures,
      report.generatedTokens,
      report.running,
    ],
    [0, 1, 1, 10, 0],
  );
  equal(report.windowMs, 500);
  equal(report.samples, undefined);
  deepEqual(meter.take(), []);
});

test("a busy window tells of its first arrivals only", () => {
  const meter = new TrafficMeter({
    routerId: "r",
    heldCount: () => 0,
    nowMs: () => 0,
  });
  for (let i = 0; i < 1_000; i++) meter.begin("m", i);
  const [{ arrivals, samples }] = meter.take();
  equal(arrivals, 1_000);
  deepEqual(samples?.map(({ promptTokens }) => promptTokens), [
    ...Array(64).keys(),
  ]);
});

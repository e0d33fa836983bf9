import { deepEqual, equal } from "node:assert/strict";
import { mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "vitest";
import { createLocalBus, type TrafficReport } from "../../lib/bus/mod.ts";
import { recordBus } from "./record_bus.ts";
import { readTrace } from "./trace/mod.ts";
import { readRecordedLines } from "./trace/recording.ts";

const report = (changes: Partial<TrafficReport>): TrafficReport => ({
  routerId: "r1",
  model: "a",
  atMs: 1_000,
  windowMs: 1_000,
  arrivals: 0,
  completions: 0,
  failures: 0,
  held: 0,
  running: 0,
  promptTokens: 0,
  generatedTokens: 0,
  ...changes,
});

test("what the bus says is recorded, and read back as a trace", async () => {
  const path = join(mkdtempSync(join(tmpdir(), "recording-")), "r.jsonl");
  const stop = new AbortController();
  await using bus = createLocalBus();
  const done = recordBus(bus, path, stop.signal);
  await new Promise((resolve) => setTimeout(resolve, 20));
  bus.publishTraffic(report({ arrivals: 2, promptTokens: 30 }));
  bus.publishTraffic(report({
    model: "b",
    atMs: 3_000,
    arrivals: 1,
    promptTokens: 7,
    completions: 1,
    generatedTokens: 5,
  }));
  bus.publishTraffic(
    report({ atMs: 4_000, completions: 2, generatedTokens: 40 }),
  );
  bus.publishWake({ routerId: "r1", model: "b", atMs: 2_500, held: 1 });
  await new Promise((resolve) => setTimeout(resolve, 20));
  stop.abort();
  equal(await done, 4);
  deepEqual(
    readRecordedLines(path).map(({ kind }) => kind).toSorted(),
    ["traffic", "traffic", "traffic", "wake"],
  );

  const trace = readTrace(path, {
    seed: "1",
    rateScale: 1,
    arrivals: "thin",
    limitMs: Infinity,
  });
  deepEqual(trace.models, ["a", "b"]);
  deepEqual([...{ [Symbol.iterator]: () => trace.requests() }], [
    { atMs: 250, model: 0, promptTokens: 15, outputTokens: 20 },
    { atMs: 750, model: 0, promptTokens: 15, outputTokens: 20 },
    { atMs: 2_500, model: 1, promptTokens: 7, outputTokens: 5 },
  ]);
});

test("sampled arrivals are replayed as they were, the others behind them", () => {
  const path = join(mkdtempSync(join(tmpdir(), "recording-")), "r.jsonl");
  const samples = [
    { offsetMs: 10, promptTokens: 300 },
    { offsetMs: 200, promptTokens: 20 },
  ];
  const message = report({ arrivals: 4, promptTokens: 420, samples });
  const line = { kind: "traffic", atMs: 1_000, message };
  writeFileSync(path, `${JSON.stringify(line)}\n`);
  const trace = readTrace(path, {
    seed: "1",
    rateScale: 1,
    arrivals: "thin",
    limitMs: Infinity,
  });
  const requests = [...{ [Symbol.iterator]: () => trace.requests() }];
  deepEqual(requests.map(({ atMs, promptTokens }) => [atMs, promptTokens]), [
    [10, 300],
    [200, 20],
    [400, 50],
    [800, 50],
  ]);
});

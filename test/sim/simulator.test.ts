import { deepEqual, equal, ok, throws } from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { describe, test } from "vitest";
import { policyNames } from "../../services/autoscaler/policies/mod.ts";
import type { NodeView } from "../../services/autoscaler/placement/mod.ts";
import { GpuWorker, type SimRequest } from "./gpu_worker.ts";
import { createLatencyHistogram } from "./latency_histogram.ts";
import { plotSvg } from "./plot.ts";
import { type Profile, readProfile } from "./profile.ts";
import { createRandom } from "./random.ts";
import { simulateTrace } from "./simulate_trace.ts";
import {
  readTrace,
  type Trace,
  type TraceOptions,
  type TraceRequest,
} from "./trace/mod.ts";

const here = import.meta.dirname!;
const samples = join(here, "sample-traces");
const pool = readProfile(join(here, "profiles/h200_pool.json"));
const single = readProfile(join(here, "profiles/one_model_8_slots.json"));
const options = {
  seed: "1",
  rateScale: 0.001,
  arrivals: "thin" as TraceOptions["arrivals"],
  limitMs: Infinity,
};
const servegen = (changes: Partial<typeof options> = {}) =>
  readTrace(join(samples, "servegen/m-mid"), { ...options, ...changes });
const azure = () =>
  readTrace(join(samples, "AzureLLMInferenceTrace_conv.csv"), options);

describe("one GPU", () => {
  const node: NodeView = {
    id: 0,
    hostModels: new Set<number>(),
    diskModels: new Set<number>(),
  };
  const modelClass = {
    name: "m",
    weight: 1,
    weightsBytes: 1e9,
    prefillTokensPerS: 10_000,
    stepMs: 10,
    stepMsPerSequence: 1,
    slots: 8,
  };
  const request = (promptTokens: number, outputTokens: number): SimRequest => ({
    arrivedMs: 0,
    model: 0,
    promptTokens,
    outputTokens,
    prefillFactor: 1,
    firstTokenMs: -1,
    doneAtToken: 0,
    joinedAtToken: 0,
  });

  test("engines side by side do not wait for one another's prompts, shared ones do", () => {
    const firstTokens = (sideBySide: number[]) => {
      const worker = new GpuWorker(
        0,
        node,
        0,
        80e9,
        0.5,
        undefined,
        sideBySide,
      );
      for (const model of [0, 1]) {
        const resident = worker.addResident(model, modelClass, 0);
        worker.start({ ...request(1_000, 1), model }, resident, 0);
      }
      const times: number[] = [];
      const events = {
        firstToken: (_: SimRequest, nowMs: number) => times.push(nowMs),
        done() {},
      };
      while (worker.sequences > 0) worker.run(worker.nextEventMs(), events);
      return times;
    };
    deepEqual(firstTokens([]), [100, 200]);
    deepEqual(firstTokens([0, 1]), [100, 100]);
  });

  test("a prompt takes its time times its factor", () => {
    const worker = new GpuWorker(0, node, 0, 80e9, 0.5, undefined);
    const resident = worker.addResident(0, modelClass, 0);
    worker.start({ ...request(1_000, 1), prefillFactor: 2.5 }, resident, 0);
    equal(worker.nextEventMs(), 250);
  });

  function run(requests: readonly SimRequest[]) {
    const worker = new GpuWorker(0, node, 0, 80e9, 0.5, undefined);
    const resident = worker.addResident(0, modelClass, 0);
    for (const item of requests) worker.start(item, resident, 0);
    const firstMs: number[] = [];
    const doneMs: number[] = [];
    while (worker.sequences > 0) {
      worker.run(worker.nextEventMs(), {
        firstToken: (_, nowMs) => firstMs.push(Math.round(nowMs)),
        done: (_, nowMs) => doneMs.push(Math.round(nowMs)),
      });
    }
    return { firstMs, doneMs };
  }

  test("prefills, then decodes a token per step", () => {
    // 1,000 tokens at 10,000/s, then nine steps of 11 ms.
    deepEqual(run([request(1000, 10)]), { firstMs: [100], doneMs: [199] });
  });

  test("shares time between a prefill and decodes, and batches decodes", () => {
    // The second prefill has half the GPU from 100 ms on: 200 ms for its 100.
    // Meanwhile the first decodes at half speed: 200 / 22 = 9.09 tokens. Then
    // both together, 12 ms a step: 10.91 left and 20 left.
    const { firstMs, doneMs } = run([request(1000, 21), request(1000, 21)]);
    deepEqual(firstMs, [100, 300]);
    deepEqual(doneMs, [300 + 131, 300 + 131 + 100]);
  });
});

test("queueing agrees with theory: M/D/1 at 70 % load", () => {
  const random = createRandom("md1");
  const requests: TraceRequest[] = [];
  for (let atMs = 0; requests.length < 40_000;) {
    // 100 ms of prefill each, one token, so nothing is decoded.
    atMs += random.exponential() * (100 / 0.7);
    requests.push({ atMs, model: 0, promptTokens: 2000, outputTokens: 1 });
  }
  const trace: Trace = {
    name: "md1",
    models: ["m"],
    durationMs: requests.at(-1)!.atMs,
    requests: () => requests.values(),
  };
  const profile: Profile = { ...single, startReplicas: 1 };
  const { result } = simulateTrace(trace, {
    profile: {
      ...profile,
      sequencesPerGpu: 1000,
      models: [{ ...profile.models[0], slots: 1000 }],
    },
    policy: "hpa",
    config: { replicasMax: 1 },
    seed: "1",
  });
  // Lindley's recursion over 4 million customers, evaluated separately: mean
  // 216.6 ms (theory: 100 + 100 * 0.7 / 0.6 = 216.7), median 173, 95 % 510.
  equal(result.requests, 40_000);
  ok(Math.abs(result.ttft_s.p50 / 0.173 - 1) < 0.05, `${result.ttft_s.p50}`);
  ok(Math.abs(result.ttft_s.p95 / 0.51 - 1) < 0.05, `${result.ttft_s.p95}`);
});

describe("a simulation", () => {
  const simulate = (policy: string, seed = "1") =>
    simulateTrace(servegen({ seed, limitMs: 12 * 3_600_000 }), {
      profile: pool,
      policy,
      seed,
    });

  for (const policy of policyNames) {
    test(`accounts for every request under ${policy}`, () => {
      const { result, timeline } = simulate(policy);
      const ended = timeline.ended.reduce((sum, count) => sum + count, 0);
      ok(result.requests > 1000);
      equal(ended, result.requests);
      ok(result.slo_attainment >= 0 && result.slo_attainment <= 1);
      ok(result.gpu_hours > 0);
      ok(result.ttft_s.p50 <= result.ttft_s.p95);
      ok(result.ttft_s.p95 <= result.ttft_s.p99);
    });
  }

  test("gives the same bytes for the same seed, and others for another", () => {
    const bytes = (seed: string) => {
      const simulation = simulate("tail", seed);
      return JSON.stringify(simulation) + plotSvg(simulation, { title: "t" });
    };
    equal(bytes("1"), bytes("1"));
    ok(bytes("1") !== bytes("2"));
  });

  test("loses no request when workers crash every few hours", () => {
    const { result, timeline } = simulateTrace(
      servegen({ limitMs: 12 * 3_600_000 }),
      {
        profile: { ...pool, workerFailuresPerDay: 8 },
        policy: "tail",
        seed: "1",
      },
    );
    equal(timeline.ended.reduce((sum, n) => sum + n, 0), result.requests);
    ok(result.slo_attainment > 0.97);
  });

  test("has the fields an operator's script reads, in order", () => {
    deepEqual(Object.keys(simulate("tail").result), [
      "policy",
      "requests",
      "slo_attainment",
      "ttft_s",
      "gpu_hours",
      "replica_hours",
      "scale_events",
      "reversals",
      "cold_starts",
      "overloaded_s",
    ]);
  });

  test("shows what AIBrix's faulty average costs: overloaded most of the time", () => {
    const run = (policy: string) =>
      simulateTrace(azure(), {
        profile: single,
        policy,
        config: { slotShare: 0.5 },
        seed: "1",
      }).result.overloaded_s;
    const seconds = azure().durationMs / 1000;
    ok(run("aibrix-kpa") > 0.3 * seconds);
    ok(run("knative-kpa") < 0.1 * seconds);
  });

  test("tail costs less than half of Knative with a model's own pods, and is in time", () => {
    const tail = simulate("tail").result;
    const knative = simulateTrace(servegen({ limitMs: 12 * 3_600_000 }), {
      profile: pool,
      policy: "knative-kpa",
      config: { podRetentionMs: 600_000 },
      seed: "1",
    }).result;
    ok(tail.slo_attainment >= 0.99);
    ok(tail.gpu_hours < 0.5 * knative.gpu_hours);
  });
});

describe("traces", () => {
  const list = (trace: Trace) => [
    ...{ [Symbol.iterator]: () => trace.requests() },
  ];

  test("Azure, Mooncake and VTC files keep order, lengths and models", () => {
    const [first, second] = list(azure());
    deepEqual([first.promptTokens, first.outputTokens], [374, 44]);
    ok(Math.abs(second.atMs - 4314.579) < 0.01);
    const mooncake = list(
      readTrace(join(samples, "mooncake_conversation_trace.jsonl"), options),
    );
    deepEqual([mooncake.length, mooncake[0].promptTokens], [600, 6758]);
    const vtc = readTrace(join(samples, "vtc_arena_27models.csv"), options);
    equal(vtc.models.length, 27);
    const times = list(vtc).map(({ atMs }) => atMs);
    deepEqual(times, times.toSorted((a, b) => a - b));
  });

  test("ServeGen arrivals have the recorded rate, thinned or stretched", () => {
    const trace = servegen({ rateScale: 0.01 });
    equal(trace.models.length, 12);
    const count = (arrivals: "thin" | "stretch") =>
      list(servegen({ rateScale: 0.01, arrivals })).length;
    // The mean of the sample's rates over its first day, times 864 s.
    const expected = expectedRequests(0.01);
    ok(Math.abs(count("thin") / expected - 1) < 0.05);
    ok(Math.abs(count("stretch") / expected - 1) < 0.35);
  });

  test("thinning leaves the variation a thinned renewal process has", () => {
    const random = createRandom("thinning");
    const variation = 5;
    const shape = 1 / variation ** 2;
    const gaps: number[] = [];
    let gap = 0;
    while (gaps.length < 20_000) {
      gap += random.gamma(shape) / shape;
      if (random.next() >= 0.1) continue;
      gaps.push(gap);
      gap = 0;
    }
    const mean = gaps.reduce((sum, value) => sum + value, 0) / gaps.length;
    const square = gaps.reduce((sum, value) => sum + value ** 2, 0) /
      gaps.length;
    const squared = square / mean ** 2 - 1;
    ok(Math.abs(squared / (1 + 0.1 * (variation ** 2 - 1)) - 1) < 0.1);
  });

  test("an unknown file is refused with what is known", () => {
    throws(
      () => readTrace(join(samples, "README.md"), options),
      /Azure CSV.*Mooncake JSONL.*VTC CSV.*recording/,
    );
    throws(() => readTrace(join(samples, "none"), options), /no such file/);
  });

  function expectedRequests(rateScale: number): number {
    // Read apart from the trace reader: column 2 of every line is a rate.
    const sum = execFileSync("awk", [
      "-F,",
      "{ sum += $2 * 600 } END { print sum }",
      ...trace12(),
    ]).toString();
    return Number(sum) * rateScale;
  }

  function trace12(): string[] {
    return servegen().models.map((model) =>
      join(samples, "servegen/m-mid", `${model}-trace.csv`)
    );
  }
});

test("percentiles are right to one percent", () => {
  const histogram = createLatencyHistogram();
  for (let ms = 1; ms <= 10_000; ms++) histogram.add(ms);
  for (const quantile of [0.5, 0.95, 0.99]) {
    ok(Math.abs(histogram.quantileMs(quantile) / (quantile * 1e4) - 1) < 0.011);
  }
});

test("`simulate --json` prints one object a simulation and nothing else", () => {
  const out = execFileSync(process.execPath, [
    "run",
    "-A",
    join(here, "simulate.ts"),
    "--trace",
    join(samples, "AzureLLMInferenceTrace_conv.csv"),
    "--policy",
    "tail",
    "--policy",
    "hpa",
    "--profile",
    join(here, "profiles/one_model_8_slots.json"),
    "--json",
  ]).toString();
  const results = out.trim().split("\n").map((line) => JSON.parse(line));
  deepEqual(results.map(({ policy }) => policy), ["tail", "hpa"]);
  equal(results[0].requests, 1399);
});

import { deepEqual, equal } from "node:assert/strict";
import { test } from "vitest";
import { type KnativeConfig, knativeKpa } from "./knative_kpa.ts";
import { signalsWith } from "./testing.ts";

const config: KnativeConfig = {
  ...knativeKpa.defaults,
  concurrencyPerReplica: 10,
  targetUtilization: 1,
  scaleUpRateMax: 10,
  replicasMax: 1000,
};

interface Phase {
  readonly seconds: number;
  readonly concurrency: number;
  readonly ready: number;
}

/** What is wanted after the phases, one decision every two seconds. */
function after(phases: readonly Phase[], changes: Partial<KnativeConfig> = {}) {
  const merged = { ...config, ...changes };
  // A start with one replica or none is calm.
  let state = knativeKpa.initialState(0, 0);
  let nowMs = 0;
  let wanted = 0;
  let reason = "";
  for (const { seconds, concurrency, ready } of phases) {
    for (let i = 0; i < seconds / 2; i++) {
      nowMs += 2_000;
      const signals = signalsWith({
        observedAtMs: nowMs,
        concurrency,
        running: Math.ceil(concurrency),
        replicasReady: ready,
        arrivals: concurrency > 0 ? 1 : 0,
      });
      const decision = knativeKpa.decide(signals, merged, state, nowMs);
      ({ state } = decision);
      wanted = decision.replicas;
      reason = decision.reason;
    }
  }
  return { wanted, reason };
}

const steady = { seconds: 60, concurrency: 100, ready: 10 };

/** Knative's docs on autoscaling and the cases of its autoscaler's own tests. */
const cases = [
  { label: "keeps 10 at 10 requests each", phases: [steady], want: 10 },
  {
    label: "follows a rise of half in the stable window",
    phases: [{ ...steady, concurrency: 150 }],
    want: 15,
  },
  {
    label: "follows a fall in the stable window",
    phases: [{ ...steady, concurrency: 50 }],
    want: 5,
  },
  {
    label: "rounds a fraction of a replica up",
    phases: [{ ...steady, concurrency: 101 }],
    want: 11,
  },
  {
    label: "gives at most half away in one decision",
    phases: [{ seconds: 60, concurrency: 1, ready: 10 }],
    want: 5,
  },
  {
    label: "grows by the rate at most",
    phases: [{ seconds: 60, concurrency: 10_000, ready: 10 }],
    want: 100,
  },
  {
    label: "averages a young window over what it has",
    phases: [{ seconds: 2, concurrency: 100, ready: 10 }],
    want: 10,
  },
  {
    label: "ignores six seconds below twice the ready count",
    phases: [steady, { seconds: 6, concurrency: 189, ready: 10 }],
    // (27 * 100 + 3 * 189) / 30 = 108.9 in the stable window.
    want: 11,
  },
  {
    label: "panics at twice the ready count",
    phases: [steady, { seconds: 6, concurrency: 200, ready: 10 }],
    want: 20,
  },
  {
    label: "does not shrink in panic",
    phases: [
      steady,
      { seconds: 6, concurrency: 200, ready: 10 },
      { seconds: 30, concurrency: 20, ready: 20 },
    ],
    want: 20,
  },
  {
    label: "leaves panic a stable window after the threshold",
    phases: [
      steady,
      { seconds: 6, concurrency: 200, ready: 10 },
      // The panic window is over the threshold for some seconds more.
      { seconds: 70, concurrency: 100, ready: 20 },
    ],
    want: 10,
  },
  {
    label: "aims at 70 % unless told otherwise",
    phases: [{ seconds: 60, concurrency: 70, ready: 10 }],
    config: { concurrencyPerReplica: 10, targetUtilization: 0.7 },
    want: 10,
  },
  {
    label: "keeps the last replica through the grace of 30 s",
    phases: [
      { seconds: 60, concurrency: 5, ready: 1 },
      { seconds: 60 + 28, concurrency: 0, ready: 1 },
    ],
    want: 1,
  },
  {
    label: "goes to zero after window and grace",
    phases: [
      { seconds: 60, concurrency: 5, ready: 1 },
      { seconds: 60 + 32, concurrency: 0, ready: 1 },
    ],
    want: 0,
  },
  {
    label: "keeps the last replica for the retention period as well",
    phases: [
      { seconds: 60, concurrency: 5, ready: 1 },
      { seconds: 60 + 300, concurrency: 0, ready: 1 },
    ],
    config: { podRetentionMs: 600_000 },
    want: 1,
  },
  {
    label: "does not go under min scale",
    phases: [{ seconds: 200, concurrency: 0, ready: 2 }],
    config: { replicasMin: 2 },
    want: 2,
  },
  {
    label: "follows the largest wish of the scale-down delay",
    phases: [steady, { seconds: 60, concurrency: 50, ready: 10 }],
    config: { scaleDownDelayMs: 120_000 },
    want: 10,
  },
];

for (const { label, phases, config: changes, want } of cases) {
  test(`knativeKpa ${label}`, () => {
    equal(after(phases, changes).wanted, want);
  });
}

test("knativeKpa starts in panic with several replicas, so a restart does not shrink", () => {
  const state = knativeKpa.initialState(7, 0);
  const signals = signalsWith({ concurrency: 0, replicasReady: 7 }, 2_000);
  const decision = knativeKpa.decide(signals, config, state, 2_000);
  deepEqual([decision.replicas, decision.reason], [7, "panic"]);
});

test("knativeKpa counts spare burst capacity as the activator does", () => {
  const signals = signalsWith({
    concurrency: 20,
    running: 20,
    replicasReady: 30,
  });
  const { numbers } = knativeKpa.decide(
    signals,
    config,
    knativeKpa.initialState(0, 0),
    0,
  );
  // 30 * 10 - 211 - 20
  equal(numbers.excessBurstCapacity, 69);
});

import { equal, ok } from "node:assert/strict";
import { test } from "vitest";
import { policyNamed } from "./mod.ts";
import { drive, signalsWith, slots } from "./testing.ts";

const total = {
  kind: "total",
  read: "concurrency",
  targetPerReplica: 4,
} as const;

test("fault 1: AIBrix's KPA divides a mean per pod by the target: 4 full pods become 2", () => {
  const full = signalsWith({
    concurrency: 4 * slots,
    running: 4 * slots,
    replicasReady: 4,
    arrivals: 1,
  });
  const replicas = (name: string, config: Record<string, unknown>) => {
    const policy = policyNamed(name, config);
    return policy.decide(full, policy.initialState(1, 0), 0).replicas;
  };
  equal(replicas("aibrix-kpa", { targetPerReplica: slots / 2 }), 2);
  // The same load, told as a total, needs eight.
  equal(replicas("target", { metric: total, growthMax: 8 }), 8);
  equal(replicas("hpa", { targetPerReplica: slots / 2 }), 8);
});

test("fault 1, in time: AIBrix's KPA never serves a load of 10 pods with more than 2", () => {
  const loads = new Array<number>(200).fill(10 * slots);
  const policy = policyNamed("aibrix-kpa", {
    targetPerReplica: slots / 2,
    replicasMax: 40,
  });
  const counts = drive(policy, loads, { replicas: 10 })
    .map(({ decision }) => decision.replicas);
  // It comes down from ten, and queueing makes it swing without settling.
  ok(Math.min(...counts.slice(50)) < 10);
  ok(counts.some((count, i) => i > 0 && count < counts[i - 1]));
});

test("fault 2: AIBrix's window hastens shrinking, where Kubernetes' delays it", () => {
  // A dip of one decision, then a fall by a fifth: from 10 pods.
  const steady = new Array<number>(6).fill(40);
  const loads = [...steady, 8, ...steady, 34];
  const run = (name: string) => {
    const policy = policyNamed(name, { targetPerReplica: 4 });
    return drive(policy, loads, { replicas: 10 })
      .map(({ decision }) => decision.replicas);
  };
  const aibrix = run("aibrix-apa");
  const kubernetes = run("hpa");
  equal(aibrix[6], 5, "the dip halves it at once");
  ok(Math.min(...kubernetes) === 10, "Kubernetes waits 300 s");
});

test("fault 2, later: an old low recommendation wins over the present one", () => {
  const policy = policyNamed("aibrix-apa", { targetPerReplica: 4 });
  let state = policy.initialState(10, 0);
  const decide = (nowMs: number, pods: number, load: number) => {
    const decision = policy.decide(
      signalsWith({
        concurrency: load,
        running: load,
        replicasReady: pods,
        arrivals: 1,
      }, nowMs),
      state,
      nowMs,
    );
    ({ state } = decision);
    return decision.replicas;
  };
  equal(decide(10_000, 10, 20), 5);
  equal(decide(20_000, 10, 40), 10);
  // Now 34 requests need 9 pods of 4; it goes to the 5 of 20 s ago.
  equal(decide(30_000, 10, 34), 5);
});

test("fault 3: AIBrix never goes to zero, and starts nothing from zero load", () => {
  for (const name of ["aibrix-apa", "aibrix-kpa"]) {
    const policy = policyNamed(name);
    const idle = new Array<number>(100).fill(0);
    equal(drive(policy, idle).at(-1)!.decision.replicas, 1);
  }
});

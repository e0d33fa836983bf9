import { equal, ok } from "node:assert/strict";
import { describe, test } from "vitest";
import type { ModelCost } from "../forecast/latency_model.ts";
import { policyNamed } from "./mod.ts";
import { signalsOf, slots } from "./testing.ts";

const cost: ModelCost = {
  weightsBytes: 8.5e9,
  promptTokensMean: 1000,
  outputTokensMean: 200,
  prefillTokensPerS: 20_000,
  stepMs: 4,
  stepMsPerSequence: 0.05,
  slots,
  startMs: 60_000,
  wakeMs: { host: 900, disk: 2_400, network: 8_000 },
};
const large = {
  ...cost,
  wakeMs: { host: 2_600, disk: 15_500, network: 60_000 },
};
const alone = { ...cost, wakeMs: undefined };

/** Decides at each time with that many requests in the mesh; one arrival each. */
function run(
  config: Record<string, unknown>,
  moments: readonly { atMs: number; load: number; arrivals?: number }[],
) {
  const policy = policyNamed("tail", config);
  let state = policy.initialState(0, 0);
  let replicas = 0;
  return moments.map(({ atMs, load, arrivals }) => {
    const signals = signalsOf(load, replicas, {
      nowMs: atMs,
      arrivals: arrivals ?? (load > 0 ? 1 : 0),
    });
    const decision = policy.decide(signals, state, atMs);
    ({ state, replicas } = decision);
    return decision;
  });
}

describe("tail", () => {
  test("shares a rare model while in use, and lets it go at once when disk is in time", () => {
    const [used, idle] = run({ cost }, [
      { atMs: 5_000, load: 1 },
      { atMs: 10_000, load: 0 },
    ]);
    equal(used.residency, "shared");
    equal(idle.residency, "absent");
    ok(idle.numbers.diskMs <= idle.numbers.budgetMs);
  });

  test("keeps a model asleep whose disk is too slow, for the hour, then lets it go", () => {
    const [, idle, later] = run({ cost: large }, [
      { atMs: 5_000, load: 1 },
      { atMs: 10_000, load: 0 },
      { atMs: 3_700_000, load: 0 },
    ]);
    equal(idle.residency, "asleep");
    equal(idle.reason, "disk-too-slow");
    equal(later.residency, "absent");
  });

  test("lets a laxer target put the same model on disk", () => {
    const [, idle] = run({ cost: large, ttftTargetMs: 60_000 }, [
      { atMs: 5_000, load: 1 },
      { atMs: 10_000, load: 0 },
    ]);
    equal(idle.residency, "absent");
  });

  test("gives a busy model replicas of its own", () => {
    const busy = Array.from({ length: 200 }, (_, i) => ({
      atMs: (i + 1) * 5_000,
      load: 3 * slots,
      arrivals: 40,
    }));
    const last = run({ cost }, busy).at(-1)!;
    equal(last.residency, "dedicated");
    ok(last.numbers.share >= 0.6);
    ok(last.replicas >= 3);
  });

  test("without sharing keeps a model through its usual rests", () => {
    const minuteMs = 60_000;
    const visits = Array.from(
      { length: 12 },
      (_, i) => ({ atMs: (i + 1) * 20 * minuteMs, load: 1 }),
    );
    const lastMs = visits.at(-1)!.atMs;
    // Two minutes of forgetting the load, then twenty of rest.
    const rest = [5, 10, 19].map((minutes) => ({
      atMs: lastMs + minutes * minuteMs,
      load: 0,
    }));
    const late = { atMs: lastMs + 60 * minuteMs, load: 0 };
    const decisions = run({ cost: alone }, [...visits, ...rest, late]);
    // It goes while nobody is due, and is back before the twentieth minute.
    equal(decisions.at(-2)!.replicas, 1);
    equal(decisions.at(-1)!.replicas, 0);
  });

  test("is not settled while it still expects to bring a model back", () => {
    const hourMs = 3_600_000;
    const nights = Array.from(
      { length: 10 },
      (_, i) => ({ atMs: (i + 1) * 24 * hourMs, load: 1 }),
    );
    const lastMs = nights.at(-1)!.atMs;
    const day = [4, 8, 23.9].map((hours) => ({
      atMs: lastMs + hours * hourMs,
      load: 0,
    }));
    const decisions = run({ cost: alone }, [...nights, ...day]);
    const [, noon, evening] = decisions.slice(-3);
    equal(noon.replicas, 0);
    equal(noon.settled, false);
    equal(evening.replicas, 1);
  });

  test("grows by the factor at most", () => {
    const decisions = run({ cost: alone, growthMax: 2 }, [
      { atMs: 5_000, load: 200 },
      { atMs: 10_000, load: 200 },
      { atMs: 15_000, load: 200 },
      { atMs: 20_000, load: 200 },
    ]);
    equal(decisions.map(({ replicas }) => replicas).join(), "1,2,4,8");
  });
});

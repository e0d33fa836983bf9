import { equal, ok, throws } from "node:assert/strict";
import fc from "fast-check";
import { describe, test } from "vitest";
import type { ModelCost } from "../forecast/latency_model.ts";
import { inFlight, isSaturated, staleAfterMs } from "../signals.ts";
import { type BoundPolicy, policyNamed, policyNames } from "./mod.ts";
import {
  anyLoads,
  anySignals,
  drive,
  reversals,
  signalsOf,
  signalsWith,
  slots,
} from "./testing.ts";

const cost: ModelCost = {
  weightsBytes: 8e9,
  promptTokensMean: 1000,
  outputTokensMean: 200,
  prefillTokensPerS: 20_000,
  stepMs: 10,
  stepMsPerSequence: 0.1,
  slots,
  startMs: 60_000,
  wakeMs: undefined,
};
const replicasMax = 20;
const total = { kind: "total", read: "concurrency", targetPerReplica: 5.6 };

interface Subject {
  readonly policy: BoundPolicy;
  /** Never fewer replicas in a moment of saturation, whatever came before. */
  readonly saturation: "at once" | "once its windows are full" | "no";
  /** More load in the same situation never gives fewer replicas. */
  readonly monotone: boolean;
  /**
   * Shrinks once in this long at most, so that 200 decisions on a constant load
   * with noise reverse at most twice per window.
   */
  readonly shrinkWindowMs: number | undefined;
}

const subject = (
  name: string,
  config: Record<string, unknown>,
  claims: Omit<Subject, "policy">,
): Subject => ({
  policy: policyNamed(name, { replicasMax, ...config }),
  ...claims,
});

const subjects: Record<string, Subject> = {
  "target on a total": subject("target", { metric: total }, {
    saturation: "at once",
    monotone: true,
    shrinkWindowMs: 300_000,
  }),
  "target per replica": subject("target", {
    metric: { kind: "per-replica", read: "slotUse", target: 0.7 },
  }, { saturation: "at once", monotone: true, shrinkWindowMs: 300_000 }),
  "knative-kpa": subject("knative-kpa", { concurrencyPerReplica: slots }, {
    saturation: "once its windows are full",
    monotone: true,
    // A mean of 30 samples crosses a boundary of ceil() as often as it likes.
    shrinkWindowMs: undefined,
  }),
  hpa: subject("hpa", { targetPerReplica: 5.6 }, {
    saturation: "once its windows are full",
    monotone: true,
    shrinkWindowMs: 300_000,
  }),
  "aibrix-apa": subject("aibrix-apa", { targetPerReplica: 5.6 }, {
    saturation: "once its windows are full",
    monotone: true,
    shrinkWindowMs: undefined,
  }),
  "aibrix-kpa": subject("aibrix-kpa", { targetPerReplica: 5.6 }, {
    saturation: "no",
    monotone: true,
    shrinkWindowMs: undefined,
  }),
  scheduled: subject("scheduled", {
    schedule: [{ minute: 0, replicas: 3 }, { minute: 7, replicas: 0 }],
  }, { saturation: "at once", monotone: true, shrinkWindowMs: 86_400_000 }),
  "tail on its own": subject("tail", { cost }, {
    saturation: "at once",
    monotone: true,
    shrinkWindowMs: 120_000,
  }),
  // Bigger batches make a request cheaper, so more of them at once may make a
  // model small enough to share: not monotone in replicas of its own.
  "tail on a pool": subject("tail", {
    cost: { ...cost, wakeMs: { host: 900, disk: 2400, network: 8000 } },
  }, { saturation: "at once", monotone: false, shrinkWindowMs: 120_000 }),
};

for (const [name, claims] of Object.entries(subjects)) {
  const { policy } = claims;
  describe(name, () => {
    test("keeps the bounds", () => {
      fc.assert(fc.property(anyLoads, fc.nat(4), (loads, startPeriods) => {
        for (const { decision } of drive(policy, loads, { startPeriods })) {
          ok(Number.isInteger(decision.replicas));
          ok(decision.replicas >= policy.config.replicasMin);
          ok(decision.replicas <= policy.config.replicasMax);
        }
      }));
    });

    test("never scales to zero with requests in flight or held", () => {
      const anyPast = fc.tuple(anyLoads, fc.nat(100));
      fc.assert(fc.property(anyPast, anySignals, ([loads, quiet], last) => {
        if (inFlight(last) === 0) return;
        const past = [...loads, ...new Array<number>(quiet).fill(0)];
        const state = drive(policy, past).at(-1)!.decision.state;
        const nowMs = (past.length + 1) * policy.periodMs;
        const signals = { ...last, observedAtMs: nowMs };
        const { replicas, residency } = policy.decide(signals, state, nowMs);
        ok(replicas >= 1);
        ok(residency === "dedicated" || residency === "shared");
      }));
    });

    test("brings one replica for a held request, from the very first decision", () => {
      const signals = signalsWith({ held: 1, replicasReady: 0, arrivals: 1 });
      const { replicas } = policy.decide(
        signals,
        policy.initialState(0, 0),
        0,
      );
      ok(replicas >= 1);
    });

    test("never shrinks on missing or stale signals", () => {
      fc.assert(fc.property(
        anyLoads,
        anySignals,
        fc.option(fc.nat(100_000)),
        (loads, last, staleMs) => {
          const nowMs = (loads.length + 1) * policy.periodMs + staleAfterMs;
          const observedAtMs = staleMs === null
            ? undefined
            : nowMs - staleAfterMs - 1 - staleMs;
          const state = drive(policy, loads).at(-1)!.decision.state;
          const signals = { ...last, observedAtMs };
          const { replicas } = policy.decide(signals, state, nowMs);
          const current = signals.replicasReady + signals.replicasStarting;
          ok(replicas >= Math.min(current, policy.config.replicasMax));
        },
      ));
    });

    test("answers equal questions equally and leaves the state alone", () => {
      fc.assert(fc.property(anyLoads, anySignals, (loads, last) => {
        const state = drive(policy, loads).at(-1)!.decision.state;
        const before = JSON.stringify(state);
        const nowMs = (loads.length + 1) * policy.periodMs;
        const signals = { ...last, observedAtMs: nowMs };
        const first = policy.decide(signals, state, nowMs);
        const second = policy.decide(signals, state, nowMs);
        equal(JSON.stringify(first), JSON.stringify(second));
        equal(JSON.stringify(state), before);
      }));
    });

    test("says finite numbers and a reason", () => {
      fc.assert(fc.property(anyLoads, (loads) => {
        for (const { decision } of drive(policy, loads, { replicas: 0 })) {
          ok(decision.reason.length > 0);
          for (const value of Object.values(decision.numbers)) {
            ok(!Number.isNaN(value));
          }
        }
      }));
    });

    if (claims.saturation === "at once") {
      test("never has fewer replicas while saturated and under the maximum", () => {
        fc.assert(fc.property(
          anyLoads,
          fc.nat(40),
          anySignals,
          fc.nat(3_600_000),
          (loads, quiet, last, laterMs) => {
            const past = [...loads, ...new Array<number>(quiet).fill(1)];
            const state = drive(policy, past, { replicas: 5 })
              .at(-1)!.decision.state;
            const nowMs = (past.length + 1) * policy.periodMs + laterMs;
            const signals = { ...last, observedAtMs: nowMs };
            if (!isSaturated(signals)) return;
            const { replicas } = policy.decide(signals, state, nowMs);
            const current = signals.replicasReady + signals.replicasStarting;
            ok(replicas >= Math.min(current, replicasMax));
          },
        ));
      });
    }

    if (claims.saturation !== "no") {
      test("grows to the maximum when it stays saturated", () => {
        if (name === "scheduled") return;
        fc.assert(
          fc.property(anyLoads, (loads) => {
            const heavy = new Array<number>(60).fill(replicasMax * slots * 2);
            const steps = drive(policy, [...loads, ...heavy]);
            const counts = steps.slice(loads.length + 31)
              .map(({ decision }) => decision.replicas);
            equal(reversals(counts), 0);
            equal(counts.at(-1), replicasMax);
          }),
          { numRuns: 30 },
        );
      });
    }

    if (claims.monotone) {
      test("more load never means fewer replicas", () => {
        fc.assert(fc.property(
          anyLoads,
          fc.nat(300),
          fc.nat(100),
          fc.integer({ min: 1, max: 20 }),
          (loads, load, more, ready) => {
            const state = drive(policy, loads).at(-1)!.decision.state;
            const nowMs = (loads.length + 1) * policy.periodMs;
            const replicas = (requests: number) =>
              policy.decide(
                signalsOf(requests, ready, { nowMs, arrivals: 1 }),
                state,
                nowMs,
              ).replicas;
            ok(replicas(load + more) >= replicas(load));
          },
        ));
      });
    }

    if (claims.shrinkWindowMs !== undefined) {
      const windows = 200 * policy.periodMs / claims.shrinkWindowMs;
      const reversalsMax = 2 * Math.ceil(windows);
      test(`reverses at most ${reversalsMax} times in 200 decisions on a constant load with noise`, () => {
        fc.assert(
          fc.property(
            fc.integer({ min: 1, max: 120 }),
            fc.array(fc.double({ min: 0.9, max: 1.1, noNaN: true }), {
              minLength: 200,
              maxLength: 200,
            }),
            (load, noise) => {
              const loads = noise.map((factor) => Math.round(load * factor));
              const counts = drive(policy, loads, { startPeriods: 3 })
                .map(({ decision }) => decision.replicas);
              ok(reversals(counts) <= reversalsMax);
            },
          ),
          { numRuns: 40 },
        );
      });
    }
  });
}

test("an unknown policy lists the known ones", () => {
  throws(() => policyNamed("kpa"), (error: Error) => {
    return policyNames.every((name) => error.message.includes(name));
  });
});

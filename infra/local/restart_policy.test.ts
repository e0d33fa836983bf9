import { deepEqual } from "node:assert/strict";
import { test } from "vitest";
import { decideRestart, type RestartPolicy } from "./restart_policy.ts";

const policy: RestartPolicy = {
  delayMs: 100,
  delayMsMax: 1_000,
  stableMs: 5_000,
  failuresMax: 3,
};

const cases = [
  {
    label: "restarts after the first delay",
    death: { uptimeMs: 9, wasReady: true, failures: 0 },
    want: { kind: "restart", delayMs: 100, failures: 1 },
  },
  {
    label: "doubles the delay with each early death",
    death: { uptimeMs: 9, wasReady: true, failures: 2 },
    want: { kind: "restart", delayMs: 400, failures: 3 },
  },
  {
    label: "keeps the delay within its bound, and goes on",
    death: { uptimeMs: 9, wasReady: true, failures: 500 },
    want: { kind: "restart", delayMs: 1_000, failures: 501 },
  },
  {
    label: "forgets failures once a run was stable",
    death: { uptimeMs: 5_000, wasReady: true, failures: 7 },
    want: { kind: "restart", delayMs: 100, failures: 1 },
  },
  {
    label: "tries again when it was not ready yet",
    death: { uptimeMs: 9, wasReady: false, failures: 1 },
    want: { kind: "restart", delayMs: 200, failures: 2 },
  },
  {
    label: "gives up on a process that never got ready",
    death: { uptimeMs: 9, wasReady: false, failures: 2 },
    want: { kind: "give-up", failures: 3 },
  },
];

for (const { label, death, want } of cases) {
  test(`decideRestart() ${label}`, () => {
    deepEqual(decideRestart(death, policy), want);
  });
}

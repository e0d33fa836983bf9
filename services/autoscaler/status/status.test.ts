import { deepEqual, equal, ok } from "node:assert/strict";
import { test } from "vitest";
import {
  workerModel,
  workerRecord,
} from "../../../lib/bus/testing/worker_records.ts";
import { modelSpec, type ModelStatus, parse } from "../crds/mod.ts";
import type { ModelView } from "../scaling/model_view.ts";
import { withJudgements } from "./conditions.ts";
import { addDecision } from "./decision_log.ts";
import { type ModelFacts, planModelStatus } from "./plan_model_status.ts";
import { planPoolStatus, type PoolFacts } from "./plan_pool_status.ts";

const nowMs = Date.parse("2026-01-02T03:04:05.678Z");

test("a condition keeps its time until its status changes", () => {
  const judge = (
    status: boolean,
    message: string,
    atMs: number,
    before = first,
  ) =>
    withJudgements(before, [{ type: "Ready", status, reason: "R", message }], {
      nowMs: atMs,
      generation: 1,
    });
  const first = withJudgements([], [{
    type: "Ready",
    status: true,
    reason: "R",
    message: "a",
  }], {
    nowMs,
    generation: 1,
  });
  equal(first[0].lastTransitionTime, "2026-01-02T03:04:05Z");
  equal(
    judge(true, "b", nowMs + 60_000)[0].lastTransitionTime,
    "2026-01-02T03:04:05Z",
  );
  equal(
    judge(false, "b", nowMs + 60_000)[0].lastTransitionTime,
    "2026-01-02T03:05:05Z",
  );
});

test("the decision log keeps the last five, with readable numbers", () => {
  let log: ReturnType<typeof addDecision> = [];
  for (let i = 0; i < 7; i++) {
    log = addDecision(log, {
      what: `${i}`,
      reason: "grow",
      numbers: { load: 1 / 3, host: Infinity },
    }, nowMs);
  }
  deepEqual(log.map(({ what }) => what), ["6", "5", "4", "3", "2"]);
  deepEqual(log[0].numbers, { load: 0.3333 });
});

const parsed = parse(modelSpec, { source: { path: "/a" }, pool: "p" }, "spec");
ok(parsed.kind === "valid");
const spec = parsed.value;

const view: ModelView = {
  model: "m",
  copies: 0,
  decision: undefined,
  now: { running: 0, waiting: 0, held: 0, ready: 0 },
  workers: [],
  unplaced: false,
  failure: undefined,
  weightBytes: 0,
  lastWake: undefined,
};

const facts: ModelFacts = {
  before: {},
  generation: 3,
  spec,
  sourceHash: "h",
  faults: [],
  hasPool: true,
  deleting: false,
  view,
  progress: new Map(),
  decisions: [],
  blind: false,
  nowMs,
};

const worker = (state: "loading" | "asleep" | "running") =>
  workerRecord("w", {
    podName: "pod-w",
    models: [workerModel("m", { state, weightBytes: 0 })],
  });

const states: [string, Partial<ModelFacts>, string, string][] = [
  ["nobody asks for it", {}, "Absent", "Idle"],
  [
    "its spec is wrong",
    { faults: [{ field: "spec.pool", expected: "x", found: "y" }] },
    "Invalid",
    "InvalidSpec",
  ],
  ["its pool is not there", { hasPool: false }, "Pending", "NoPool"],
  [
    "it is wanted and no worker is there",
    { view: { ...view, copies: 1 } },
    "Pending",
    "WaitingForWorker",
  ],
  [
    "it is wanted and there is no room",
    { view: { ...view, copies: 1, unplaced: true } },
    "Pending",
    "NoRoom",
  ],
  [
    "a worker loads it",
    { view: { ...view, copies: 1, workers: [worker("loading")] } },
    "Loading",
    "Loading",
  ],
  [
    "it sleeps",
    { view: { ...view, workers: [worker("asleep")] } },
    "Asleep",
    "Idle",
  ],
  [
    "its load failed",
    {
      view: {
        ...view,
        copies: 1,
        failure: { workerId: "w", message: "no", attempts: 2, notBeforeMs: 0 },
      },
    },
    "Failed",
    "LoadFailed",
  ],
  ["it is being deleted", { deleting: true }, "Deleting", "Deleting"],
  [
    "NATS is away",
    { blind: true, before: { state: "Asleep" } },
    "Asleep",
    "SignalsStale",
  ],
  [
    "a worker serves it",
    {
      view: {
        ...view,
        copies: 1,
        now: { ...view.now, ready: 1 },
        workers: [worker("running")],
      },
    },
    "Running",
    "Serving",
  ],
];

for (const [label, changes, state, reason] of states) {
  test(`a Model is ${state}, ${reason} when ${label}`, () => {
    const status = planModelStatus({ ...facts, ...changes });
    deepEqual([status.state, status.reason], [state, reason]);
    equal(status.observedGeneration, 3);
    equal(status.conditions?.[0].reason, reason);
  });
}

test("a Model's status stays the same while its facts do, however often it is planned", () => {
  const once = planModelStatus({
    ...facts,
    view: {
      ...view,
      copies: 1,
      workers: [worker("running")],
      now: { ...view.now, ready: 1 },
    },
  });
  const again = planModelStatus({
    ...facts,
    before: once,
    nowMs: nowMs + 3_600_000,
    view: {
      ...view,
      copies: 1,
      workers: [worker("running")],
      now: { ...view.now, ready: 1 },
    },
  });
  deepEqual(again, once);
});

test("what an earlier leader measured stays in the status", () => {
  const before: ModelStatus = {
    coldStart: "2.0s",
    lastWakeTime: "2026-01-01T00:00:00Z",
    weightBytes: 7,
    decisions: [{
      time: "2026-01-01T00:00:00Z",
      what: "x",
      reason: "grow",
      numbers: {},
    }],
  };
  const status = planModelStatus({ ...facts, before });
  deepEqual(
    [
      status.coldStart,
      status.lastWakeTime,
      status.weightBytes,
      status.decisions,
    ],
    [before.coldStart, before.lastWakeTime, 7, before.decisions],
  );
});

test("progress is shown for the worker that loads", () => {
  const status = planModelStatus({
    ...facts,
    view: { ...view, copies: 1, workers: [worker("loading")] },
    progress: new Map([["w", 0.4]]),
  });
  deepEqual(status.pods, [{ pod: "pod-w", state: "loading", progress: "40%" }]);
});

const poolFacts: PoolFacts = {
  name: "p",
  before: {},
  generation: 1,
  faults: [],
  deleting: false,
  wanted: 2,
  reason: "grow",
  deployment: {
    metadata: { name: "p-workers" },
    status: { replicas: 2, readyReplicas: 2 },
  },
  conflicts: [],
  joined: 2,
  models: 1,
  decisions: [],
  blind: false,
  nowMs,
};

const conditionOf = (status: ReturnType<typeof planPoolStatus>, type: string) =>
  status.conditions?.find((each) => each.type === type);

test("a pool is ready when its pods are, and says why there are as many", () => {
  const status = planPoolStatus(poolFacts);
  deepEqual(
    [status.ready, status.reason, conditionOf(status, "Ready")?.status],
    ["2/2", "grow", "True"],
  );
});

test("a pool whose Deployment does not come on says what Kubernetes says", () => {
  const status = planPoolStatus({
    ...poolFacts,
    deployment: {
      metadata: { name: "p-workers" },
      status: {
        replicas: 2,
        readyReplicas: 0,
        conditions: [{
          type: "ReplicaFailure",
          status: "True",
          message: "exceeded quota",
        }],
      },
    },
  });
  deepEqual([status.reason, conditionOf(status, "Ready")?.message], [
    "Stuck",
    "exceeded quota",
  ]);
});

test("fields left to others are named with their owner", () => {
  const status = planPoolStatus({
    ...poolFacts,
    conflicts: [{ field: ".spec.replicas", manager: "kubectl" }],
  });
  equal(conditionOf(status, "Applied")?.reason, "FieldConflict");
  ok(
    conditionOf(status, "Applied")?.message.includes(
      ".spec.replicas (kubectl)",
    ),
  );
});

test("a pool says when nothing is decided", () => {
  const status = planPoolStatus({ ...poolFacts, blind: true });
  equal(conditionOf(status, "SignalsFresh")?.reason, "NatsUnreachable");
});

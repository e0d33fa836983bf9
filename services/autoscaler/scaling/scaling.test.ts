import { deepEqual, equal, ok } from "node:assert/strict";
import fc from "fast-check";
import { test } from "vitest";
import {
  workerModel,
  workerRecord,
} from "../../../lib/bus/testing/worker_records.ts";
import type { WorkerModel, WorkerRecord } from "../../../lib/bus/types.ts";
import {
  type ModelSpec,
  modelSpec,
  parse,
  type WorkerPoolSpec,
  workerPoolSpec,
} from "../crds/mod.ts";
import { ModelTraffic } from "../mesh/model_traffic.ts";
import { policyNames } from "../policies/mod.ts";
import { decidePool, type PoolSeen, type PoolWish } from "./decide_pool.ts";
import { policyOf } from "./model_policy.ts";
import { modelNow, tallyWorkers } from "./model_signals.ts";
import {
  type Action,
  type PlacementDemand,
  planPlacement,
  type PoolWorker,
} from "./plan_placement.ts";

function poolOf(changes: Record<string, unknown> = {}): WorkerPoolSpec {
  const parsed = parse(workerPoolSpec, changes, "spec");
  ok(parsed.kind === "valid");
  return parsed.value;
}

function modelOf(scaling: Record<string, unknown> = {}): ModelSpec {
  const parsed = parse(modelSpec, {
    source: { path: "/a.gguf" },
    pool: "p",
    scaling,
  }, "spec");
  ok(parsed.kind === "valid", JSON.stringify(parsed));
  return parsed.value;
}

const quiet: PoolSeen = {
  current: 0,
  blind: false,
  silent: 0,
  inFlight: 0,
  unplacedBytes: 0,
  busyShare: 0,
  bytesPerWorker: Infinity,
};

function wish(copies: number, changes: Partial<PoolWish> = {}): PoolWish {
  return {
    model: "m",
    copies,
    residency: copies > 0 ? "shared" : "absent",
    share: 0,
    shareVariance: 0,
    bytes: 1,
    ...changes,
  };
}

const poolCases: {
  label: string;
  spec?: Record<string, unknown>;
  wishes?: PoolWish[];
  seen?: Partial<PoolSeen>;
  want: [number, string];
}[] = [
  { label: "stays at none while nobody asks", want: [0, "steady"] },
  {
    label: "brings a pod for a wanted model",
    wishes: [wish(1)],
    want: [1, "grow"],
  },
  {
    label: "brings as many pods as one model has copies",
    spec: { scaling: { replicasMax: 5 } },
    wishes: [wish(2), wish(1)],
    seen: { current: 1 },
    want: [2, "grow"],
  },
  {
    label: "keeps the maximum",
    spec: { scaling: { replicasMax: 2 } },
    wishes: [wish(9)],
    seen: { current: 2 },
    want: [2, "steady"],
  },
  {
    label: "keeps the minimum",
    spec: { scaling: { replicasMin: 2, replicasMax: 3 } },
    want: [2, "grow"],
  },
  {
    label: "does as it is told by hand, whatever the wishes",
    spec: { replicas: 3, scaling: { replicasMax: 1 } },
    wishes: [wish(1)],
    want: [3, "manual"],
  },
  {
    label: "holds while blind",
    spec: { scaling: { replicasMax: 4 } },
    seen: { current: 3, blind: true },
    want: [3, "no-data"],
  },
  {
    label: "keeps bounds also while blind",
    spec: { scaling: { replicasMax: 2 } },
    seen: { current: 3, blind: true },
    want: [2, "no-data"],
  },
  {
    label: "does not shrink while a worker is silent",
    spec: { scaling: { replicasMax: 4, idleSeconds: 0 } },
    seen: { current: 2, silent: 1 },
    want: [2, "silent-worker"],
  },
  {
    label: "does not go to zero with a request in flight",
    spec: { scaling: { replicasMax: 4, idleSeconds: 0 } },
    seen: { current: 2, inFlight: 1 },
    want: [1, "in-flight"],
  },
  {
    label: "grows when a wanted model finds no room",
    spec: { scaling: { replicasMax: 4 } },
    wishes: [wish(1), wish(1)],
    seen: { current: 1, unplacedBytes: 10, bytesPerWorker: 100 },
    want: [2, "no-room"],
  },
  {
    label: "follows its only model when it is dedicated",
    spec: { sharing: "dedicated", scaling: { replicasMax: 8 } },
    wishes: [wish(3, { residency: "dedicated" })],
    seen: { current: 2 },
    want: [3, "grow"],
  },
];

for (const { label, spec, wishes = [], seen, want } of poolCases) {
  test(`decidePool() ${label}`, () => {
    const decision = decidePool(poolOf(spec), wishes, {
      seen: { ...quiet, ...seen },
      nowMs: 0,
    });
    deepEqual([decision.wanted, decision.reason], want);
  });
}

test("decidePool() shrinks only after the pool's whole idle time", () => {
  const spec = poolOf({ scaling: { replicasMax: 2, idleSeconds: 60 } });
  let state;
  let current = 1;
  const counts: number[] = [];
  for (let second = 0; second <= 70; second += 10) {
    const decision = decidePool(spec, second === 0 ? [wish(1)] : [], {
      seen: { ...quiet, current },
      state,
      nowMs: second * 1_000,
    });
    ({ wanted: current, state } = decision);
    counts.push(current);
  }
  deepEqual(counts, [1, 1, 1, 1, 1, 1, 0, 0]);
});

test("decidePool() keeps its promises whatever it is told", () => {
  const anySeen = fc.record({
    current: fc.nat(20),
    blind: fc.boolean(),
    silent: fc.nat(2),
    inFlight: fc.nat(3),
    unplacedBytes: fc.constantFrom(0, 1, 1e9),
    busyShare: fc.constantFrom(0, 0.5, 1),
    bytesPerWorker: fc.constantFrom(Infinity, 1e9),
  });
  const anyWishes = fc.array(
    fc.record({
      copies: fc.nat(30),
      share: fc.double({ min: 0, max: 5, noNaN: true }),
    })
      .map(({ copies, share }) => wish(copies, { share })),
    { maxLength: 10 },
  );
  fc.assert(fc.property(
    anySeen,
    anyWishes,
    fc.nat(3),
    fc.integer({ min: 3, max: 20 }),
    (seen, wishes, replicasMin, replicasMax) => {
      const spec = poolOf({
        scaling: { replicasMin, replicasMax, idleSeconds: 0 },
      });
      const { wanted } = decidePool(spec, wishes, { seen, nowMs: 0 });
      ok(wanted <= Math.max(replicasMax, seen.current), "above its maximum");
      ok(wanted >= replicasMin, "below its minimum");
      if (seen.inFlight > 0 && seen.current > 0) {
        ok(wanted > 0, "left a request alone");
      }
      if (seen.silent > 0 && seen.current <= replicasMax) {
        ok(wanted >= seen.current, "shrank with a silent worker");
      }
      if (seen.blind) {
        equal(
          wanted,
          Math.min(replicasMax, Math.max(replicasMin, seen.current)),
        );
      }
    },
  ));
});

const own = (model: string, changes: Partial<WorkerModel> = {}): WorkerModel =>
  workerModel(model, { weightBytes: 40, ...changes });

function worker(
  workerId: string,
  models: WorkerModel[] = [],
  changes: Partial<PoolWorker> = {},
): PoolWorker {
  const taken = models.reduce((sum, { weightBytes }) => sum + weightBytes, 0);
  return {
    workerId,
    pod: workerId,
    node: "n",
    ready: true,
    draining: false,
    memoryBytesTotal: 100,
    memoryBytesFree: 100 - taken,
    models,
    pending: new Set(),
    ...changes,
  };
}

function demand(
  model: string,
  copies: number,
  changes: Partial<PlacementDemand> = {},
): PlacementDemand {
  return {
    model,
    copies,
    residency: copies > 0 ? "shared" : "absent",
    held: 0,
    bytes: 40,
    share: 0,
    notBeforeMs: -Infinity,
    ...changes,
  };
}

/** Long after everything was loaded. */
const nowMs = 1e6;
const memory = {
  sinceMs: { get: () => 0 } as unknown as ReadonlyMap<string, number>,
  usedMs: new Map<string, number>(),
  onDisk: new Map<string, ReadonlySet<string>>(),
};

function place(demands: PlacementDemand[], workers: PoolWorker[]) {
  const outcome = planPlacement(demands, workers, {
    memory,
    nowMs,
    isProtected: () => false,
  });
  return {
    actions: outcome.actions.map(({ kind, worker, model }) =>
      `${kind} ${model} on ${worker}`
    ),
    unplaced: outcome.unplaced,
  };
}

const placementCases: {
  label: string;
  demands: PlacementDemand[];
  workers: PoolWorker[];
  want: string[];
  unplaced?: string[];
}[] = [
  {
    label: "leaves what is as wanted",
    demands: [demand("a", 1)],
    workers: [worker("w", [own("a")])],
    want: [],
  },
  {
    label: "loads what is missing",
    demands: [demand("a", 1)],
    workers: [worker("w")],
    want: ["load a on w"],
  },
  {
    label: "loads several models onto one worker as far as they fit",
    demands: [demand("a", 1), demand("b", 1), demand("c", 1)],
    workers: [worker("w")],
    want: ["load a on w", "load b on w"],
    unplaced: ["c"],
  },
  {
    label: "wakes a sleeping copy before it loads another",
    demands: [demand("a", 1)],
    workers: [
      worker("v"),
      worker("w", [own("a", { state: "asleep", weightBytes: 0 })]),
    ],
    want: ["wake a on w"],
  },
  {
    label: "spreads the copies of a hot model",
    demands: [demand("a", 2)],
    workers: [worker("v", [own("a")]), worker("w")],
    want: ["load a on w"],
  },
  {
    label: "ousts an idle model that nobody wants for one that is held",
    demands: [
      demand("a", 1, { held: 1, bytes: 80 }),
      demand("b", 0, { residency: "shared" }),
    ],
    workers: [worker("w", [own("b")])],
    want: ["unload b on w", "load a on w"],
  },
  {
    label: "ousts an idle model that is wanted only for one that is held",
    demands: [demand("a", 1, { held: 1, bytes: 80 }), demand("b", 1)],
    workers: [worker("w", [own("b")])],
    want: ["unload b on w", "load a on w"],
  },
  {
    label:
      "leaves an idle model that is wanted to others that only might be asked",
    demands: [demand("a", 1, { bytes: 80 }), demand("b", 1)],
    workers: [worker("w", [own("b")])],
    want: [],
    unplaced: ["a"],
  },
  {
    label: "never ousts a model with requests",
    demands: [demand("a", 1, { bytes: 80 }), demand("b", 1)],
    workers: [worker("w", [own("b", { running: 1 })])],
    want: [],
    unplaced: ["a"],
  },
  {
    label: "lets surplus copies go once nothing runs on them",
    demands: [demand("a", 1)],
    workers: [worker("v", [own("a", { running: 2 })]), worker("w", [own("a")])],
    want: ["unload a on w"],
  },
  {
    label: "puts to sleep what is wanted asleep",
    demands: [demand("a", 0, { residency: "asleep" })],
    workers: [worker("w", [own("a")])],
    want: ["sleep a on w"],
  },
  {
    label: "unloads what nobody describes, unless it runs something",
    demands: [],
    workers: [worker("v", [own("x")]), worker("w", [own("y", { running: 1 })])],
    want: ["unload x on v"],
  },
  {
    label: "asks nothing of workers that drain or are not ready",
    demands: [demand("a", 2)],
    workers: [
      worker("v", [], { draining: true }),
      worker("w", [], { ready: false }),
    ],
    want: [],
    unplaced: ["a"],
  },
  {
    label: "waits for calls that are under way",
    demands: [demand("a", 1)],
    workers: [worker("v", [], { pending: new Set(["a"]) }), worker("w")],
    want: [],
  },
  {
    label: "waits out the pause after a failure",
    demands: [demand("a", 1, { notBeforeMs: nowMs + 1 })],
    workers: [worker("w")],
    want: [],
  },
  {
    label: "counts a failed copy as none",
    demands: [demand("a", 1)],
    workers: [worker("w", [own("a", { state: "failed", weightBytes: 0 })])],
    want: ["load a on w"],
  },
];

for (const { label, demands, workers, want, unplaced = [] } of placementCases) {
  test(`planPlacement() ${label}`, () => {
    const outcome = place(demands, workers);
    deepEqual(outcome.actions, want);
    deepEqual(outcome.unplaced, unplaced);
  });
}

test("planPlacement() keeps a protected model that it was not told of", () => {
  const outcome = planPlacement([], [worker("w", [own("x")])], {
    memory,
    nowMs,
    isProtected: (model) => model === "x",
  });
  deepEqual(outcome.actions, []);
});

test("planPlacement() brings any demands to rest in a few rounds, and never over a worker's memory", () => {
  const anyDemands = fc.uniqueArray(
    fc.record({
      model: fc.constantFrom(..."abcdefgh"),
      copies: fc.nat(3),
      bytes: fc.integer({ min: 1, max: 60 }),
    }),
    { selector: ({ model }) => model, maxLength: 8 },
  );
  fc.assert(
    fc.property(anyDemands, fc.integer({ min: 1, max: 4 }), (found, count) => {
      const demands = found.map(({ model, copies, bytes }) =>
        demand(model, copies, { bytes })
      );
      let workers = Array.from({ length: count }, (_, i) => worker(`w${i}`));
      for (let round = 0; round < 12; round++) {
        const { actions } = planPlacement(demands, workers, {
          memory,
          nowMs,
          isProtected: () => false,
        });
        if (actions.length === 0) return;
        workers = workers.map((each) => carriedOut(each, actions, demands));
        for (const each of workers) {
          ok(each.memoryBytesFree >= 0, "over its memory");
        }
      }
      throw new Error("it never comes to rest");
    }),
  );
});

function carriedOut(
  { models, ...rest }: PoolWorker,
  actions: readonly Action[],
  demands: readonly PlacementDemand[],
): PoolWorker {
  const mine = actions.filter((action) => action.worker === rest.workerId);
  const leaving = mine.filter(({ kind }) => kind === "unload").map((
    { model },
  ) => model);
  const coming = mine.filter(({ kind }) => kind === "load").map(({ model }) =>
    own(model, {
      weightBytes: demands.find((each) => each.model === model)!.bytes,
    })
  );
  const left = models.filter(({ model }) => !leaving.includes(model));
  return worker(rest.workerId, [...left, ...coming]);
}

const record = (
  workerId: string,
  models: WorkerModel[],
  draining = false,
): WorkerRecord => workerRecord(workerId, { draining, models });

test("modelNow() adds up workers and believes the larger of two counts", () => {
  const traffic = new ModelTraffic();
  traffic.report({
    routerId: "r",
    model: "a",
    atMs: 0,
    windowMs: 1,
    arrivals: 3,
    completions: 0,
    failures: 0,
    held: 2,
    running: 9,
    promptTokens: 0,
    generatedTokens: 0,
  }, 1_000);
  const tally = tallyWorkers([
    record("v", [own("a", { running: 2, waiting: 1 })]),
    record("w", [own("a", { running: 3 })], true),
    record("x", [own("a", { state: "loading" })]),
  ]);
  deepEqual(modelNow("a", tally, { traffic, nowMs: 1_500 }), {
    running: 8,
    waiting: 1,
    held: 2,
    ready: 1,
  });
  // A router that fell silent is not believed for long.
  deepEqual(modelNow("a", tally, { traffic, nowMs: 10_000 }), {
    running: 5,
    waiting: 1,
    held: 0,
    ready: 1,
  });
  equal(traffic.takeArrivals(), 3);
  equal(traffic.takeArrivals(), 0);
});

for (const policy of policyNames) {
  test(`policyOf() makes a policy "${policy}" of a Model's fields`, () => {
    const parsed = policyOf(
      modelOf({ policy, replicasMin: 1, replicasMax: 7 }),
    );
    ok(parsed.kind === "policy");
    equal(parsed.policy.name, policy);
    equal(parsed.policy.config.replicasMax, 7);
  });
}

test("policyOf() refuses settings that the policy does not have, or of another kind", () => {
  const parsed = policyOf(modelOf({
    policy: "tail",
    settings: { slotUze: 1, slotUse: "much", burstQuantile: -1 },
  }));
  ok(parsed.kind === "invalid");
  deepEqual(parsed.faults.map(({ field }) => field), [
    "spec.scaling.settings.slotUze",
    "spec.scaling.settings.slotUse",
    "spec.scaling.settings.burstQuantile",
  ]);
});

import { deepEqual, equal, ok } from "node:assert/strict";
import fc from "fast-check";
import { describe, test } from "vitest";
import {
  chooseWorker,
  emptyPool,
  type ModelDemand,
  placementDefaults,
  placeModels,
  planPool,
  poolDefaults,
  type PoolDemand,
  type ResidentView,
  type WorkerView,
} from "./mod.ts";

const GB = 1e9;
const wakeMs = { host: 900, disk: 2400, network: 8000 };
const seen = {
  config: placementDefaults,
  nowMs: 0,
  wakeMsOf: () => 900,
};

function worker(id: number, changes: Partial<WorkerView> = {}): WorkerView {
  const residents = changes.residents ?? new Map<number, ResidentView>();
  return {
    id,
    node: {
      id,
      hostModels: new Set<number>(),
      diskModels: new Set([1, 2, 3, 4, 5, 6, 7, 8]),
    },
    ready: true,
    draining: false,
    dedicatedTo: undefined,
    weightsBytesMax: 80 * GB,
    weightsBytes: [...residents.values()]
      .reduce((sum, { weightsBytes }) => sum + weightsBytes, 0),
    residents,
    sequences: [...residents.values()]
      .reduce((sum, { sequences }) => sum + sequences, 0),
    loadingUntilMs: 0,
    ...changes,
  };
}

function residents(
  ...views: (Partial<ResidentView> & { model: number })[]
): Map<number, ResidentView> {
  return new Map(views.map((view) => [view.model, {
    weightsBytes: 30 * GB,
    loading: false,
    sequences: 0,
    lastUsedMs: 0,
    wanted: false,
    ...view,
  }]));
}

const demand = (
  model: number,
  changes: Partial<ModelDemand> = {},
): ModelDemand => ({
  model,
  weightsBytes: 30 * GB,
  wakeMs,
  share: 0.01,
  dedicated: false,
  replicas: 1,
  held: 0,
  ...changes,
});

describe("chooseWorker()", () => {
  test("prefers the node that has the weights in host memory", () => {
    const near = worker(2, {
      node: { id: 2, hostModels: new Set([1]), diskModels: new Set([1]) },
    });
    const placement = chooseWorker(demand(1), [worker(1), near], seen)!;
    deepEqual([placement.worker, placement.source], [2, "host"]);
  });

  test("prefers an idle worker with a slower source to a busy one", () => {
    const busy = worker(2, {
      sequences: 50,
      node: { id: 2, hostModels: new Set([1]), diskModels: new Set([1]) },
    });
    equal(chooseWorker(demand(1), [worker(1), busy], seen)!.worker, 1);
  });

  test("puts out the longest unused first, unwanted before wanted", () => {
    const full = worker(1, {
      residents: residents(
        { model: 2, lastUsedMs: 5, wanted: true, weightsBytes: 25 * GB },
        { model: 3, lastUsedMs: 9, weightsBytes: 25 * GB },
        { model: 4, lastUsedMs: 7, weightsBytes: 25 * GB },
      ),
    });
    deepEqual(chooseWorker(demand(1), [full], seen)!.evict, [4]);
    const large = demand(1, { weightsBytes: 74 * GB });
    deepEqual(chooseWorker(large, [full], seen)!.evict, [4, 3, 2]);
  });

  test("finds no room where every model is in use", () => {
    const full = worker(1, {
      residents: residents(
        { model: 2, sequences: 1 },
        { model: 3, loading: true },
      ),
    });
    equal(chooseWorker(demand(1), [full], seen), undefined);
  });

  test("never takes workers that drain, start, or belong to another model", () => {
    const workers = [
      worker(1, { draining: true }),
      worker(2, { ready: false }),
      worker(3, { dedicatedTo: 7 }),
    ];
    equal(chooseWorker(demand(1), workers, seen), undefined);
  });
});

describe("placeModels()", () => {
  test("places models with held requests first", () => {
    const plan = placeModels(
      [demand(1, { weightsBytes: 70 * GB }), demand(2, { held: 3 })],
      [worker(1)],
      seen,
    );
    deepEqual(plan.actions.map(({ model }) => model), [2]);
    deepEqual(plan.unplaced, [1]);
  });

  test("does nothing for what is placed already", () => {
    const placed = worker(1, {
      residents: residents({ model: 1 }, { model: 2 }),
    });
    const plan = placeModels([demand(1), demand(2)], [placed], seen);
    deepEqual(plan, { actions: [], unplaced: [] });
  });

  test("makes a worker that has the model its own instead of loading again", () => {
    const shared = worker(1, { residents: residents({ model: 1 }) });
    const plan = placeModels(
      [demand(1, { dedicated: true })],
      [shared, worker(2)],
      seen,
    );
    deepEqual(plan.actions, [{ kind: "dedicate", model: 1, worker: 1 }]);
  });

  test("releases the least busy of too many dedicated workers", () => {
    const own = (id: number, sequences: number) =>
      worker(id, {
        dedicatedTo: 1,
        residents: residents({ model: 1, sequences }),
      });
    const plan = placeModels(
      [demand(1, { dedicated: true })],
      [own(1, 3), own(2, 1)],
      seen,
    );
    deepEqual(plan.actions, [{ kind: "release", model: 1, worker: 2 }]);
  });

  test("keeps its invariants on any cluster", () => {
    const anyResident = fc.record({
      model: fc.integer({ min: 1, max: 8 }),
      weightsBytes: fc.integer({ min: 5, max: 20 }).map((gb) => gb * GB),
      loading: fc.boolean(),
      sequences: fc.nat(2),
      lastUsedMs: fc.nat(100),
      wanted: fc.boolean(),
    });
    const anyWorker = fc.record({
      residents: fc.uniqueArray(anyResident, {
        selector: ({ model }) => model,
        maxLength: 4,
      }),
      draining: fc.boolean(),
      ready: fc.boolean(),
    });
    const anyDemand = fc.record({
      model: fc.integer({ min: 1, max: 8 }),
      weightsBytes: fc.integer({ min: 5, max: 75 }).map((gb) => gb * GB),
      replicas: fc.nat(3),
      held: fc.nat(2),
      dedicated: fc.boolean(),
    });
    fc.assert(fc.property(
      fc.array(anyWorker, { maxLength: 5 }),
      fc.uniqueArray(anyDemand, {
        selector: ({ model }) => model,
        maxLength: 6,
      }),
      (shapes, wishes) => {
        const workers = shapes.map(({ residents: own, ...rest }, id) =>
          worker(id, {
            ...rest,
            residents: new Map(own.map((view) => [view.model, view])),
          })
        );
        const plan = placeModels(
          wishes.map((wish) => demand(wish.model, wish)),
          workers,
          seen,
        );
        for (const action of plan.actions) {
          if (action.kind !== "load") continue;
          const { placement, model } = action;
          const on = workers[placement.worker];
          const wish = wishes.find((candidate) => candidate.model === model)!;
          ok(on.ready && !on.draining && !on.residents.has(model));
          let freeBytes = on.weightsBytesMax - on.weightsBytes;
          for (const id of placement.evict) {
            const resident = on.residents.get(id)!;
            ok(resident.sequences === 0 && !resident.loading);
            freeBytes += resident.weightsBytes;
          }
          ok(freeBytes >= wish.weightsBytes);
        }
        // At most one load a worker a call, so plans cannot collide.
        const loaded = plan.actions.flatMap((action) =>
          action.kind === "load" ? [action.placement.worker] : []
        );
        equal(new Set(loaded).size, loaded.length);
      },
    ));
  });
});

describe("planPool()", () => {
  const config = {
    ...poolDefaults,
    workersMax: 50,
    weightsBytesPerWorker: 80 * GB,
    hostBytesPerWorker: 128 * GB,
  };
  const rare = (model: number, changes: Partial<PoolDemand> = {}) => ({
    model,
    residency: "absent" as const,
    replicas: 0,
    share: 0.01,
    shareVariance: 0.02,
    weightsBytes: 8 * GB,
    ...changes,
  });
  const hundred = Array.from({ length: 100 }, (_, model) => rare(model));
  const calm = { workers: 10, unplacedBytes: 0, busyShare: 0 };

  test("needs 7 workers for the hundred rare models of its example", () => {
    equal(planPool(hundred, calm, config, emptyPool, 0).workers, 7);
  });

  test("brings host memory for what sleeps and room for what is loaded", () => {
    const asleep = hundred.map((model) => ({
      ...model,
      share: 0,
      shareVariance: 0,
      residency: "asleep" as const,
    }));
    equal(planPool(asleep, calm, config, emptyPool, 0).workers, 7);
    const loaded = asleep.map((model) => ({
      ...model,
      residency: "shared" as const,
    }));
    equal(planPool(loaded, calm, config, emptyPool, 0).workers, 10);
  });

  test("adds dedicated replicas on top", () => {
    const own = rare(200, { residency: "dedicated", replicas: 3 });
    equal(planPool([...hundred, own], calm, config, emptyPool, 0).workers, 10);
  });

  test("grows when requests found no room or everybody is busy", () => {
    for (const pressure of [{ unplacedBytes: GB }, { busyShare: 0.95 }]) {
      const plan = planPool(
        hundred,
        { ...calm, workers: 7, ...pressure },
        config,
        emptyPool,
        0,
      );
      equal(plan.workers, 8);
    }
    const crowd = { ...calm, workers: 7, unplacedBytes: 400 * GB };
    equal(planPool(hundred, crowd, config, emptyPool, 0).workers, 12);
  });

  test("shrinks to the largest wish of its window, and not before", () => {
    const first = planPool(hundred, calm, config, emptyPool, 0);
    const later = (nowMs: number) =>
      planPool([], { ...calm, workers: 7 }, config, first.state, nowMs).workers;
    equal(later(599_000), 7);
    equal(later(600_000), 1);
  });

  test("follows the policy at once in a pool of one model", () => {
    const own = { ...config, dedicated: true, workersMin: 0 };
    const with3 = rare(1, { residency: "dedicated", replicas: 3 });
    const first = planPool([with3], calm, own, emptyPool, 0);
    equal(first.workers, 3);
    const none = rare(1, { share: 0, shareVariance: 0 });
    equal(planPool([none], calm, own, first.state, 5_000).workers, 0);
  });

  test("grows by the factor at most", () => {
    const plan = planPool(
      hundred,
      { ...calm, workers: 2 },
      config,
      emptyPool,
      0,
    );
    equal(plan.workers, 4);
  });
});

import { deepEqual, equal, ok } from "node:assert/strict";
import { afterEach, test } from "vitest";
import { createLocalBus, type MeshBus } from "../../../lib/bus/mod.ts";
import {
  workerModel,
  workerRecord,
} from "../../../lib/bus/testing/worker_records.ts";
import type { WorkerModel, WorkerRecord } from "../../../lib/bus/types.ts";
import { waitFor } from "../../../lib/testing/mod.ts";
import { modelSpec, parse, workerPoolSpec } from "../crds/mod.ts";
import { MeshView } from "../mesh/mesh_view.ts";
import type { PodView } from "./pool_workers.ts";
import { Scaler } from "./scaler.ts";

/** A Scaler over an in-process bus, with a clock moved by hand. */
function world(options: { settleMs?: number } = {}) {
  let nowMs = 0;
  const bus: MeshBus = createLocalBus();
  const stop = new AbortController();
  const mesh = new MeshView({
    nowMs: () => nowMs,
    settleMs: options.settleMs ?? 0,
    onWake: ({ model }) => scaler.wake(model),
    onWorker: (change) => {
      if (change.kind === "put") scaler.workerChanged(change.record);
    },
  });
  const pods = new Map<string, PodView[]>();
  const pools: string[] = [];
  const actions: string[] = [];
  const scaler = new Scaler({
    mesh,
    nowMs: () => nowMs,
    podsOf: (pool) => pods.get(pool) ?? [],
    isProtected: () => false,
    pendingOf: () => new Set(),
    onPool: ({ pool, from, decision }) =>
      pools.push(`${pool} ${from} -> ${decision.wanted}: ${decision.reason}`),
    onModel() {},
    onActions: (_pool, planned) =>
      actions.push(
        ...planned.map(({ kind, model, worker }) =>
          `${kind} ${model} on ${worker}`
        ),
      ),
  });
  void mesh.follow(bus, stop.signal).catch(() => {
    // Stopped.
  });
  open.push(async () => {
    stop.abort();
    await bus[Symbol.asyncDispose]();
  });
  return {
    bus,
    mesh,
    scaler,
    pools,
    actions,
    pods,
    advance(ms: number) {
      nowMs += ms;
      scaler.tick();
    },
  };
}

const open: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const close of open.splice(0)) await close();
});

function pool(changes: Record<string, unknown> = {}) {
  const parsed = parse(workerPoolSpec, changes, "spec");
  ok(parsed.kind === "valid");
  return parsed.value;
}

function model(scaling: Record<string, unknown> = {}) {
  const parsed = parse(modelSpec, {
    source: { path: "/a" },
    pool: "p",
    scaling,
  }, "spec");
  ok(parsed.kind === "valid");
  return parsed.value;
}

const pod = (name: string): PodView => ({
  name,
  node: "n",
  ready: true,
  deleting: false,
  readySinceMs: 0,
});

const record = (
  workerId: string,
  models: Partial<WorkerModel>[] = [],
): WorkerRecord =>
  workerRecord(workerId, {
    podName: workerId,
    models: models.map((own) => workerModel("m", own)),
  });

const wake = { routerId: "r", model: "m", atMs: 0, held: 1 };

test("a wake brings a pod at once, and the model onto it as soon as it joins", async () => {
  const { bus, scaler, pools, actions, pods } = world();
  scaler.setPool("p", pool(), 0);
  scaler.setModel("m", model(), { weightBytes: 0 });
  bus.publishWake(wake);
  await waitFor(() => pools.length > 0);
  deepEqual(pools, ["p 0 -> 1: grow"]);
  deepEqual(actions, []);
  pods.set("p", [pod("a")]);
  await bus.putWorker(record("a"));
  await waitFor(() => actions.length > 0);
  deepEqual(actions, ["load m on a"]);
});

test("the cold start is measured from the first wake to a worker that serves", async () => {
  const { bus, scaler, advance, pods } = world();
  scaler.setPool("p", pool(), 0);
  scaler.setModel("m", model(), { weightBytes: 0 });
  bus.publishWake(wake);
  await waitFor(() => scaler.viewOf("m")?.lastWake);
  advance(2_000);
  bus.publishWake(wake);
  pods.set("p", [pod("a")]);
  advance(500);
  await bus.putWorker(record("a", [{ state: "loading" }]));
  advance(1_500);
  await bus.putWorker(record("a", [{}]));
  await waitFor(() => scaler.viewOf("m")?.lastWake?.tookMs !== undefined);
  equal(scaler.viewOf("m")?.lastWake?.tookMs, 4_000);
});

test("nothing is decided before it has listened for a while", () => {
  const { bus, scaler, pools, advance } = world({ settleMs: 3_000 });
  scaler.setPool("p", pool({ scaling: { replicasMax: 2, idleSeconds: 0 } }), 2);
  scaler.setModel("m", model({ idleSeconds: 0 }), { weightBytes: 0 });
  bus.publishWake(wake);
  advance(1_000);
  advance(1_000);
  deepEqual(pools, []);
});

test("a new leader shrinks a pool only after a whole idle time of its own", () => {
  const { scaler, pools, advance } = world();
  scaler.setPool(
    "p",
    pool({ scaling: { replicasMax: 2, idleSeconds: 60 } }),
    2,
  );
  scaler.setModel("m", model(), { weightBytes: 0 });
  for (let second = 0; second < 59; second++) advance(1_000);
  deepEqual(pools, []);
  for (let second = 0; second < 3; second++) advance(1_000);
  deepEqual(pools, ["p 2 -> 0: shrink"]);
});

test("a model goes when it has been idle, and stays while a worker runs something", async () => {
  const { bus, scaler, actions, advance, pods } = world();
  pods.set("p", [pod("a")]);
  scaler.setPool("p", pool({ scaling: { replicasMin: 1 } }), 1);
  scaler.setModel("m", model({ idleSeconds: 10 }), { weightBytes: 0 });
  await bus.putWorker(record("a", [{ running: 1 }]));
  for (let second = 0; second < 60; second++) advance(1_000);
  deepEqual(actions, []);
  await bus.putWorker(record("a", [{ running: 0 }]));
  for (let second = 0; second < 60 && actions.length === 0; second++) {
    advance(1_000);
  }
  deepEqual(actions, ["unload m on a"]);
});

test("a setting of a model that changes is followed at the next look", () => {
  const { scaler, pools, advance } = world();
  scaler.setPool("p", pool({ scaling: { replicasMax: 5 } }), 0);
  scaler.setModel("m", model(), { weightBytes: 0 });
  advance(1_000);
  deepEqual(pools, []);
  scaler.setModel("m", model({ replicasMin: 2 }), { weightBytes: 0 });
  advance(1_000);
  advance(10_000);
  equal(scaler.poolWanted("p")?.wanted, 2);
});

test("the first requests after hours without a worker are no busy hour", async () => {
  const { bus, scaler, pools, advance, pods } = world();
  const spec = pool({ scaling: { replicasMax: 3, idleSeconds: 60 } });
  scaler.setPool("p", spec, 0);
  scaler.setModel("m", model({ idleSeconds: 60 }), { weightBytes: 0 });
  for (let minute = 0; minute < 120; minute++) advance(60_000);
  pods.set("p", [pod("a")]);
  await bus.putWorker(record("a", [{ running: 1, waiting: 1 }]));
  bus.publishWake(wake);
  await waitFor(() => pools.length > 0);
  for (let second = 0; second < 5; second++) advance(1_000);
  // One request waits at one worker: that is one pod's work, not two's.
  deepEqual(pools, ["p 0 -> 1: grow"]);
});

test("a pool that rested still waits its idle time before it shrinks", async () => {
  const { bus, scaler, pools, advance, pods } = world();
  pods.set("p", [pod("a")]);
  scaler.setPool("p", pool({ scaling: { idleSeconds: 20 } }), 1);
  scaler.setModel("m", model({ replicasMin: 1 }), { weightBytes: 0 });
  await bus.putWorker(record("a", [{}]));
  for (let second = 0; second < 100; second++) advance(1_000);
  // The last step was that of the look at everything a minute after the start.
  advance(15_000);
  scaler.removeModel("m");
  await bus.putWorker(record("a"));
  for (let second = 0; second < 19; second++) advance(1_000);
  deepEqual(pools, []);
  for (let second = 0; second < 3; second++) advance(1_000);
  deepEqual(pools, ["p 1 -> 0: shrink"]);
});

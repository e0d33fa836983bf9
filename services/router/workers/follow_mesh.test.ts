import { equal } from "node:assert/strict";
import { test } from "vitest";
import { createLocalBus, type KvEvent } from "../../../lib/bus/mod.ts";
import { createLogger } from "../../../lib/telemetry/mod.ts";
import { createFakeClock, waitFor } from "../../../lib/testing/mod.ts";
import { workerRecord } from "../testing/records.ts";
import { followMesh, type FollowMeshOptions } from "./follow_mesh.ts";
import { KvIndex } from "./kv_index.ts";
import { TrafficMeter } from "./traffic_meter.ts";
import { decodeLinks } from "./worker_clients.ts";
import { WorkerTable } from "./worker_table.ts";

function setUp(bus: Partial<FollowMeshOptions["bus"]> = {}) {
  const local = createLocalBus();
  const workers = new WorkerTable(createFakeClock());
  const failures: unknown[] = [];
  const kvIndex = new KvIndex({
    requestDump: () => Promise.resolve(undefined),
    hashesMax: 100,
    isLive: (workerId) => workers.isLive(workerId),
  });
  const following = followMesh({
    bus: Object.assign(Object.create(local), bus),
    workers,
    kvIndex,
    clients: [decodeLinks()],
    traffic: new TrafficMeter({
      routerId: "r",
      heldCount: () => 0,
      nowMs: () => 0,
    }),
    logger: createLogger({ service: "test", level: "silent" }),
    onFailed: (reason) => failures.push(reason),
  });
  return { local, workers, kvIndex, failures, following };
}

test("a watch that fails is told: a router must not go on with a frozen table", async () => {
  const broken = new Error("cannot read the bucket");
  const { failures, following } = setUp({
    // deno-lint-ignore require-yield
    async *watchWorkers() {
      throw broken;
    },
  });
  await waitFor(() => failures.length > 0);
  equal(failures[0], broken);
  await following[Symbol.asyncDispose]();
});

test("a watch that just ends is a failure too, unless we end it", async () => {
  const ended = setUp({ async *subscribeKv() {} });
  await waitFor(() => ended.failures.length > 0);
  await ended.following[Symbol.asyncDispose]();

  const stopped = setUp();
  await stopped.following[Symbol.asyncDispose]();
  equal(stopped.failures.length, 0);
});

test("events of a worker that has gone leave nothing behind", async () => {
  const { local, workers, kvIndex, following } = setUp();
  await using _ = following;
  const event: KvEvent = {
    workerId: "a",
    model: "demo",
    number: 1,
    stored: ["x"],
    removed: [],
  };
  await local.putWorker(workerRecord("a"));
  await waitFor(() => workers.isLive("a"));
  await new Promise((resolve) => setTimeout(resolve, 10));
  kvIndex.apply(event);
  equal(kvIndex.matchedBlocks("a", "demo", ["x"]), 1);
  await local.removeWorker("decode", "a");
  await waitFor(() => !workers.isLive("a"));
  equal(kvIndex.matchedBlocks("a", "demo", ["x"]), 0);
  kvIndex.apply({ ...event, number: 2 });
  equal(kvIndex.matchedBlocks("a", "demo", ["x"]), 0);
  equal(kvIndex.holdingCount, 0);
});

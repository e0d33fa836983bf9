import { deepEqual, equal } from "node:assert/strict";
import { test } from "vitest";
import { createFakeClock } from "../../../lib/testing/mod.ts";
import { workerRecord } from "../testing/records.ts";
import { WorkerTable } from "./worker_table.ts";

function setUp() {
  const table = new WorkerTable(createFakeClock());
  table.apply({
    kind: "put",
    record: workerRecord("a", { model: { running: 3, waiting: 1 } }),
  });
  return { table, worker: table.get("decode", "a")! };
}

test("load() is what the worker reported, plus what we sent since", () => {
  const { table, worker } = setUp();
  equal(worker.load("demo"), 4);
  const sequence = table.begin(worker, "demo");
  equal(worker.load("demo"), 5);
  // The next record counts our sequence as well.
  table.apply({
    kind: "put",
    record: workerRecord("a", { model: { running: 5 } }),
  });
  equal(worker.load("demo"), 5);
  sequence[Symbol.dispose]();
  sequence[Symbol.dispose]();
  equal(worker.load("demo"), 4);
});

test("load() never falls below our own sequences", () => {
  const { table, worker } = setUp();
  table.begin(worker, "demo");
  table.begin(worker, "demo");
  table.apply({
    kind: "put",
    record: workerRecord("a", { model: { running: 0 } }),
  });
  equal(worker.load("demo"), 2);
  equal(worker.load("other"), 0);
});

test("a restarted worker starts without our old sequences", () => {
  const { table, worker } = setUp();
  const old = table.begin(worker, "demo");
  table.apply({ kind: "put", record: workerRecord("a", { startedAtMs: 2 }) });
  const fresh = table.get("decode", "a")!;
  equal(fresh.inFlight, 0);
  old[Symbol.dispose]();
  equal(fresh.inFlight, 0);
});

test("serving() goes by role and model, leaves out draining workers and forgets gone ones", () => {
  const { table } = setUp();
  table.apply({ kind: "put", record: workerRecord("b", { draining: true }) });
  table.apply({ kind: "put", record: workerRecord("a", { role: "prefill" }) });
  const ids = () =>
    table.serving("decode", "demo").map(({ record }) => record.workerId);
  deepEqual(ids(), ["a"]);
  table.apply({ kind: "gone", role: "decode", workerId: "a" });
  deepEqual(ids(), []);
  equal(table.serving("prefill", "demo").length, 1);
});

test("only a running model is served", () => {
  const { table } = setUp();
  for (
    const state of [
      "loading",
      "asleep",
      "waking",
      "failed",
      "unloading",
    ] as const
  ) {
    table.apply({
      kind: "put",
      record: workerRecord("a", { model: { state } }),
    });
    equal(table.serving("decode", "demo").length, 0, state);
  }
  table.apply({
    kind: "put",
    record: { ...workerRecord("a"), models: [] },
  });
  equal(table.serving("decode", "demo").length, 0);
});

test("avoid() leaves out one model until the record tells of it or a moment has passed", () => {
  const clock = createFakeClock();
  const table = new WorkerTable(clock);
  const put = (state: "running" | "unloading") =>
    table.apply({
      kind: "put",
      record: workerRecord("a", { model: { state } }),
    });
  put("running");
  const worker = table.get("decode", "a")!;
  const serving = () => table.serving("decode", "demo").length;
  let told = 0;
  table.onChange(() => told++);

  table.avoid(worker, "demo");
  equal(serving(), 0);
  equal(worker.trusted, true);
  put("running"); // written before the worker refused
  equal(serving(), 0);
  clock.advance(500);
  equal(serving(), 1);
  equal(told, 2);

  table.avoid(worker, "demo");
  put("unloading");
  put("running"); // woken again
  equal(serving(), 1);
});

test("one death counts once, however many sequences saw it", () => {
  const clock = createFakeClock();
  const table = new WorkerTable(clock);
  table.apply({ kind: "put", record: workerRecord("a") });
  const worker = table.get("decode", "a")!;
  for (let sequence = 0; sequence < 10; sequence++) table.distrust(worker);
  clock.advance(499);
  equal(worker.trusted, false);
  clock.advance(1);
  equal(worker.trusted, true);
  table.distrust(worker);
  clock.advance(999);
  equal(worker.trusted, false, "the next death costs twice as much");
  clock.advance(1);
  equal(worker.trusted, true);
});

test("a full queue costs a moment, each time the same, and hides no death", () => {
  const clock = createFakeClock();
  const table = new WorkerTable(clock);
  table.apply({ kind: "put", record: workerRecord("a") });
  const worker = table.get("decode", "a")!;
  let told = 0;
  table.onChange(() => told++);
  for (let time = 1; time <= 3; time++) {
    table.spare(worker);
    table.spare(worker);
    equal(worker.trusted, false);
    clock.advance(250);
    equal(worker.trusted, true);
    equal(told, time);
  }
  table.spare(worker);
  table.distrust(worker);
  clock.advance(499);
  equal(worker.trusted, false);
  clock.advance(1);
  equal(worker.trusted, true);
});

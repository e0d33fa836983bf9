import { deepEqual, equal } from "node:assert/strict";
import { test } from "vitest";
import { createFakeClock } from "../testing/mod.ts";
import { workerRecord } from "./testing/worker_records.ts";
import type { WorkerChange } from "./types.ts";
import { WorkerTable } from "./worker_table.ts";

function tableWithLog() {
  const clock = createFakeClock(5_000);
  const log: string[] = [];
  const name = (change: WorkerChange) =>
    change.kind === "put" ? change.record.workerId : change.workerId;
  const table = new WorkerTable({
    clock,
    ttlMs: 10_000,
    graceMs: 4_000,
    onChange: (change) =>
      log.push(`${clock.nowMs() - 5_000} ${change.kind} ${name(change)}`),
  });
  return { clock, log, table };
}

test("a record expires its TTL after the last renewal", () => {
  const { clock, log, table } = tableWithLog();
  table.put(workerRecord("a"));
  clock.advance(6_000);
  table.put(workerRecord("a"));
  clock.advance(20_000);
  deepEqual(log, ["0 put a", "6000 put a", "16000 gone a"]);
  equal(clock.timerCount, 0);
});

test("the age of a record that was found counts", () => {
  const { clock, log, table } = tableWithLog();
  table.put(workerRecord("a"), 7_000);
  table.put(workerRecord("b"), 60_000);
  clock.advance(4_000);
  deepEqual(log, ["0 put a", "0 put b", "1 gone b", "3000 gone a"]);
});

test("nobody expires while the connection is down", () => {
  const { clock, log, table } = tableWithLog();
  table.put(workerRecord("a"));
  table.pause();
  clock.advance(60_000);
  deepEqual(log, ["0 put a"]);
  table.resume();
  clock.advance(3_999);
  deepEqual(log, ["0 put a"]);
  clock.advance(1);
  deepEqual(log, ["0 put a", "64000 gone a"]);
});

test("after an outage those not listed have the grace, the others their time", () => {
  const { clock, log, table } = tableWithLog();
  table.put(workerRecord("here"));
  table.put(workerRecord("vanished"));
  table.pause();
  table.resume();
  table.put(workerRecord("here"));
  table.shorten(new Set(["decode.here"]));
  clock.advance(9_999);
  deepEqual(log.slice(2), ["0 put here", "4000 gone vanished"]);
});

test("remove() tells once, and nothing about strangers", () => {
  const { log, table } = tableWithLog();
  table.put(workerRecord("a"));
  table.remove("decode", "a");
  table.remove("decode", "a");
  table.remove("prefill", "b");
  deepEqual(log, ["0 put a", "0 gone a"]);
});

test("a disposed table calls nobody", () => {
  const { clock, log, table } = tableWithLog();
  table.put(workerRecord("a"));
  table[Symbol.dispose]();
  clock.advance(60_000);
  deepEqual(log, ["0 put a"]);
});

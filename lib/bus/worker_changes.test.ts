import { deepEqual } from "node:assert/strict";
import { test } from "vitest";
import { take } from "./bus_contract.ts";
import { workerRecord } from "./testing/worker_records.ts";
import { WorkerChanges } from "./worker_changes.ts";

test("a slow reader gets the newest state of each worker", async () => {
  const changes = new WorkerChanges(() => {});
  changes.push({ kind: "put", record: workerRecord("a") });
  changes.push({ kind: "put", record: workerRecord("b") });
  const newest = workerRecord("a", { draining: true });
  changes.push({ kind: "put", record: newest });
  deepEqual(await take(changes, 2), [
    { kind: "put", record: workerRecord("b") },
    { kind: "put", record: newest },
  ]);
});

test("a worker that came and went unseen is not mentioned", async () => {
  const changes = new WorkerChanges(() => {});
  const gone = { kind: "gone", role: "decode", workerId: "a" } as const;
  changes.push({ kind: "put", record: workerRecord("a") });
  changes.push(gone);
  changes.push({ kind: "put", record: workerRecord("b") });
  deepEqual(await take(changes, 1), [
    { kind: "put", record: workerRecord("b") },
  ]);
});

test("a worker the reader knows is reported gone, once", async () => {
  const changes = new WorkerChanges(() => {});
  const gone = { kind: "gone", role: "decode", workerId: "a" } as const;
  changes.push({ kind: "put", record: workerRecord("a") });
  await take(changes, 1);
  changes.push(gone);
  changes.push(gone);
  deepEqual(await take(changes, 1), [gone]);
  changes.push(gone);
  const next = changes.next();
  changes.end();
  deepEqual(await next, { value: undefined, done: true });
});

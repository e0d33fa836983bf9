import { deepEqual, equal } from "node:assert/strict";
import { test } from "vitest";
import { workerRecord } from "../../../lib/bus/testing/worker_records.ts";
import type { WorkerRecord } from "../../../lib/bus/types.ts";
import { WorkerBook } from "./worker_book.ts";

const record = (workerId: string, changes: Partial<WorkerRecord> = {}) => ({
  kind: "put" as const,
  record: workerRecord(workerId, {
    podName: `pod-of-${workerId}`,
    address: `${workerId}:1`,
    ...changes,
  }),
});
const gone = (workerId: string) => ({
  kind: "gone" as const,
  role: "decode" as const,
  workerId,
});

test("a renewal that says nothing new is no news, another amount of free memory neither", () => {
  const book = new WorkerBook();
  equal(book.take(record("w"))?.record?.workerId, "w");
  equal(book.take(record("w", { memoryBytesFree: 7 })), undefined);
  equal(book.take(record("w", { draining: true }))?.pod, "pod-of-w");
});

test("a worker that goes is told of with its pod, though the news name only its id", () => {
  const book = new WorkerBook();
  book.take(record("w"));
  const news = book.take(gone("w"));
  deepEqual(news, {
    pod: "pod-of-w",
    models: [],
    record: undefined,
    freed: "w:1",
  });
  equal(book.addressOf("w"), undefined);
  equal(book.take(gone("w")), undefined);
});

test("an address that a new pod has taken over is not freed with the old one", () => {
  const book = new WorkerBook();
  book.take(record("old", { address: "h:1" }));
  book.take(record("new", { address: "h:1" }));
  equal(book.take(gone("old"))?.freed, undefined);
  equal(book.take(gone("new"))?.freed, "h:1");
});

test("a worker that moves frees its old address", () => {
  const book = new WorkerBook();
  book.take(record("w", { address: "h:1" }));
  equal(book.take(record("w", { address: "h:2" }))?.freed, "h:1");
  equal(book.addressOf("w"), "h:2");
});

import { deepEqual, equal, rejects } from "node:assert/strict";
import { test } from "vitest";
import { EventQueue } from "./event_queue.ts";

test("a reader gets what was pushed before and after it came", async () => {
  const queue = new EventQueue<number>(() => {});
  queue.push(1);
  const seen: number[] = [];
  const reading = (async () => {
    for await (const item of queue) seen.push(item);
  })();
  await Promise.resolve();
  queue.push(2);
  queue.end();
  await reading;
  deepEqual(seen, [1, 2]);
});

test("fail() comes behind what is queued", async () => {
  const queue = new EventQueue<number>(() => {});
  queue.push(1);
  queue.fail(new Error("boom"));
  queue.push(2);
  equal((await queue.next()).value, 1);
  await rejects(queue.next(), /boom/);
  equal((await queue.next()).done, true);
});

test("a reader that leaves is reported once, and not after the end", async () => {
  let returns = 0;
  const queue = new EventQueue<number>(() => returns++);
  queue.push(1);
  for await (const _ of queue) break;
  await queue.return();
  equal(returns, 1);
});

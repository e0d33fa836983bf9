import { deepEqual, equal, throws } from "node:assert/strict";
import { test } from "vitest";
import { BoundedQueue } from "./bounded_queue.ts";

async function take<T>(queue: BoundedQueue<T>, count: number): Promise<T[]> {
  const items: T[] = [];
  while (items.length < count) items.push((await queue.next()).value);
  return items;
}

test("a full queue drops the oldest item and counts it", async () => {
  const drops: number[] = [];
  const queue = new BoundedQueue<number>({
    capacity: 3,
    onDrop: (dropped) => drops.push(dropped),
  });
  for (let i = 0; i < 5; i++) queue.push(i);
  deepEqual(await take(queue, 3), [2, 3, 4]);
  deepEqual(drops, [1, 2]);
});

test("next() waits for an item", async () => {
  const queue = new BoundedQueue<string>({ capacity: 1 });
  const first = queue.next();
  queue.push("a");
  deepEqual(await first, { value: "a", done: false });
});

test("end() lets queued items be read, then ends, and tells its owner once", async () => {
  let ends = 0;
  const queue = new BoundedQueue<string>({ capacity: 2, onEnd: () => ends++ });
  queue.push("a");
  queue.end();
  queue.push("late");
  const read: string[] = [];
  for await (const item of queue) read.push(item);
  deepEqual(read, ["a"]);
  equal(ends, 1);
});

test("leaving the loop ends the queue", async () => {
  let ends = 0;
  const queue = new BoundedQueue<number>({ capacity: 9, onEnd: () => ends++ });
  queue.push(1);
  queue.push(2);
  for await (const _ of queue) break;
  equal(ends, 1);
  equal(queue.size, 0);
});

test("order holds over many pushes and reads", async () => {
  const queue = new BoundedQueue<number>({ capacity: 1_000 });
  const read: number[] = [];
  for (let i = 0; i < 3_000; i += 3) {
    for (const j of [i, i + 1, i + 2]) queue.push(j);
    read.push(...await take(queue, i % 2 === 0 ? 3 : 2));
  }
  read.push(...await take(queue, queue.size));
  deepEqual(read, Array.from({ length: 3_000 }, (_, i) => i));
});

test("BoundedQueue names the faulty capacity", () => {
  throws(() => new BoundedQueue({ capacity: 0 }), { message: /is 0/ });
});

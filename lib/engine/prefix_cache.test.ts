import { deepEqual, equal, ok } from "node:assert/strict";
import fc from "fast-check";
import { test } from "vitest";
import { PrefixCache } from "./prefix_cache.ts";

test("a stored block outlives its holder and can be acquired by name", () => {
  const cache = new PrefixCache(2);
  const blockId = cache.allocate()!;
  equal(cache.store(blockId, "a"), blockId);
  cache.release(blockId);
  equal(cache.reclaimableCount, 1);
  equal(cache.acquire("a"), blockId);
  equal(cache.reclaimableCount, 0);
  equal(cache.acquire("b"), undefined);
});

test("allocate() takes free blocks first, then the one unused for longest", () => {
  const cache = new PrefixCache(3);
  const blocks = ["a", "b", "c"].map((hash) =>
    cache.store(cache.allocate()!, hash)
  );
  for (const blockId of blocks) cache.release(blockId);
  cache.release(cache.acquire("a")!);
  equal(cache.allocate(), blocks[1]);
  equal(cache.acquire("b"), undefined);
  equal(cache.acquire("a"), blocks[0]);
});

test("a held block is never taken", () => {
  const cache = new PrefixCache(1);
  cache.store(cache.allocate()!, "a");
  equal(cache.allocate(), undefined);
});

test("store() of known content goes on with the block that was there first", () => {
  const cache = new PrefixCache(2);
  const first = cache.store(cache.allocate()!, "a");
  const twin = cache.allocate()!;
  equal(cache.store(twin, "a"), first);
  equal(cache.holders(first), 2);
  equal(cache.freeCount, 1);
});

test("takeChange() tells net changes once", () => {
  const cache = new PrefixCache(1);
  cache.release(cache.store(cache.allocate()!, "a"));
  deepEqual(cache.takeChange(), { stored: ["a"], removed: [] });
  equal(cache.takeChange(), undefined);
  cache.release(cache.store(cache.allocate()!, "b"));
  cache.release(cache.store(cache.allocate()!, "a"));
  equal(cache.takeChange(), undefined);
});

test("free + held + reclaimable = total, whatever happens in which order", () => {
  const step = fc.record({
    action: fc.constantFrom("allocate", "acquire", "store", "release"),
    pick: fc.nat(1000),
    hash: fc.constantFrom("a", "b", "c", "d", "e", "f"),
  });
  fc.assert(fc.property(
    fc.integer({ min: 1, max: 6 }),
    fc.array(step, { maxLength: 80 }),
    (total, steps) => {
      const cache = new PrefixCache(total);
      const known = new Set<string>();
      /** One entry per holder; private blocks are listed in `unnamed` too. */
      const held: number[] = [];
      const unnamed = new Set<number>();
      for (const { action, pick, hash } of steps) {
        const index = held.length === 0 ? -1 : pick % held.length;
        if (action === "allocate") {
          const available = cache.availableCount;
          const blockId = cache.allocate();
          equal(blockId === undefined, available === 0);
          if (blockId !== undefined) {
            ok(!held.includes(blockId), "a held block was given out");
            held.push(blockId);
            unnamed.add(blockId);
          }
        } else if (action === "acquire") {
          const blockId = cache.acquire(hash);
          if (blockId !== undefined) {
            ok(!unnamed.has(blockId), "a private block was shared");
            held.push(blockId);
          }
        } else if (
          index >= 0 && action === "store" && unnamed.has(held[index])
        ) {
          unnamed.delete(held[index]);
          held[index] = cache.store(held[index], hash);
        } else if (index >= 0 && action === "release") {
          const [blockId] = held.splice(index, 1);
          unnamed.delete(blockId);
          cache.release(blockId);
        }
        const distinct = new Set(held);
        equal(cache.freeCount + distinct.size + cache.reclaimableCount, total);
        for (const id of distinct) {
          equal(cache.holders(id), held.filter((other) => other === id).length);
        }
        const change = cache.takeChange() ?? { stored: [], removed: [] };
        for (const name of change.stored) known.add(name);
        for (const name of change.removed) known.delete(name);
        deepEqual([...known].sort(), cache.hashes().sort());
      }
    },
  ));
});

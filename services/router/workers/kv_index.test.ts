import { deepEqual, equal, ok } from "node:assert/strict";
import { test } from "vitest";
import fc from "fast-check";
import type { KvDump, KvEvent } from "../../../lib/bus/mod.ts";
import { KvIndex } from "./kv_index.ts";

function event(
  number: number,
  stored: string[] = [],
  removed: string[] = [],
): KvEvent {
  return { workerId: "a", model: "demo", number, stored, removed };
}

function dump(number: number, hashes: string[]): KvDump {
  return { workerId: "a", models: [{ model: "demo", number, hashes }] };
}

/** An index whose dumps the test answers by hand. */
function setUp(hashesMax = 1_000) {
  const asked: ((answer: KvDump | undefined) => void)[] = [];
  const index = new KvIndex({
    requestDump: () => new Promise((resolve) => asked.push(resolve)),
    hashesMax,
  });
  const matched = (...hashes: string[]) =>
    index.matchedBlocks("a", "demo", hashes);
  return { index, asked, matched };
}

const settled = () => new Promise((resolve) => setImmediate(resolve));

test("matchedBlocks() counts leading blocks only", () => {
  const { index, matched } = setUp();
  index.apply(event(1, ["x", "y", "w"]));
  equal(matched("x", "y", "z", "w"), 2);
  index.apply(event(2, ["z"], ["x"]));
  equal(matched("x", "y", "z", "w"), 0);
  equal(matched("y", "z", "w"), 3);
  equal(index.matchedBlocks("b", "demo", ["y"]), 0);
});

test("a gap asks for one dump; changes that come meanwhile and are newer apply on top", async () => {
  const { index, asked, matched } = setUp();
  index.apply(event(1, ["x"]));
  index.apply(event(3, ["c"]));
  index.apply(event(4, ["d"], ["b"]));
  equal(asked.length, 1);
  equal(matched("x"), 1, "what was known serves on");
  asked[0](dump(3, ["b", "c"]));
  await settled();
  deepEqual([matched("x"), matched("b"), matched("c"), matched("d")], [
    0,
    0,
    1,
    1,
  ]);
  index.apply(event(5, ["e"]));
  deepEqual([asked.length, matched("e")], [1, 1]);
});

test("an unanswered dump leaves the index usable, the next event asks again", async () => {
  const { index, asked, matched } = setUp();
  index.apply(event(7, ["x"]));
  asked[0](undefined);
  await settled();
  equal(matched("x"), 1);
  index.apply(event(8, ["y"]));
  equal(asked.length, 2);
  asked[1](dump(8, ["x", "y"]));
  await settled();
  equal(matched("x", "y"), 2);
});

test("a restarted worker counts from 1 again and is asked anew", async () => {
  const { index, asked, matched } = setUp();
  index.apply(event(1, ["x"]));
  index.apply(event(2));
  index.apply(event(1, ["y"]));
  equal(asked.length, 1);
  asked[0](dump(1, ["y"]));
  await settled();
  deepEqual([matched("x"), matched("y")], [0, 1]);
});

test("memory is bounded: the oldest hashes are forgotten", () => {
  const { index, matched } = setUp(3);
  for (let i = 1; i <= 10; i++) index.apply(event(i, [`h${i}`]));
  equal(matched("h7"), 0);
  equal(matched("h8", "h9", "h10"), 3);
});

test("forget() drops a worker's holdings", () => {
  const { index, matched } = setUp();
  index.apply(event(1, ["x"]));
  index.forget("a");
  equal(matched("x"), 0);
});

test("whatever is lost on the way, the index equals the worker after one repair", async () => {
  const change = fc.record({
    stored: fc.array(fc.constantFrom("a", "b", "c", "d"), { maxLength: 2 }),
    removed: fc.array(fc.constantFrom("a", "b", "c", "d"), { maxLength: 2 }),
    lost: fc.boolean(),
  });
  await fc.assert(
    fc.asyncProperty(fc.array(change, { maxLength: 30 }), async (changes) => {
      const held = new Set<string>();
      let number = 0;
      const index = new KvIndex({
        requestDump: async () => {
          const answer = dump(number, [...held]);
          await settled();
          return answer;
        },
        hashesMax: 100,
      });
      for (const { stored, removed, lost } of changes) {
        number++;
        for (const hash of removed) held.delete(hash);
        for (const hash of stored) held.add(hash);
        if (!lost) index.apply(event(number, stored, removed));
        if (number % 3 === 0) await settled();
      }
      // One more event shows a gap at the end.
      number++;
      index.apply(event(number));
      for (let i = 0; i < 5; i++) await settled();
      for (const hash of ["a", "b", "c", "d"]) {
        ok(
          index.matchedBlocks("a", "demo", [hash]) === Number(held.has(hash)),
          hash,
        );
      }
    }),
  );
});

test("a model that left its worker is forgotten, its neighbours are not", async () => {
  const { index, asked, matched } = setUp();
  const other = (hashes: string[]) => index.matchedBlocks("a", "other", hashes);
  index.apply(event(1, ["x"]));
  index.apply({ ...event(1, ["y"]), model: "other" });
  index.forgetModel("a", "demo");
  equal(matched("x"), 0);
  equal(other(["y"]), 1);
  // It returns, and its numbers go on: the gap asks for a dump.
  index.apply(event(5, ["z"]));
  asked.shift()!(dump(5, ["z"]));
  await settled();
  equal(matched("z"), 1);
  // The dump did not name the other model, so that one is gone.
  equal(other(["y"]), 0);
});

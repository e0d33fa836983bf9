import { equal, throws } from "node:assert/strict";
import { test } from "vitest";
import { BlockPool } from "./block_pool.ts";

test("take() gives each block once, lowest first, then undefined", () => {
  const pool = new BlockPool(2);
  equal(pool.take(), 0);
  equal(pool.take(), 1);
  equal(pool.take(), undefined);
  equal(pool.freeCount, 0);
});

test("a block is free again when its last holder dropped it and it was freed", () => {
  const pool = new BlockPool(1);
  const blockId = pool.take()!;
  pool.hold(blockId);
  equal(pool.drop(blockId), 1);
  throws(() => pool.free(blockId), /freed while held/);
  equal(pool.drop(blockId), 0);
  equal(pool.take(), undefined);
  pool.free(blockId);
  equal(pool.take(), blockId);
});

test("a holder cannot be dropped twice", () => {
  const pool = new BlockPool(1);
  const blockId = pool.take()!;
  pool.drop(blockId);
  throws(() => pool.drop(blockId), /dropped by nobody/);
});

test("BlockPool names the faulty total", () => {
  throws(() => new BlockPool(0), { name: "RangeError", message: /is 0/ });
});

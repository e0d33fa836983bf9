import { createHash } from "node:crypto";
import { deepEqual, equal, notEqual } from "node:assert/strict";
import { test } from "vitest";
import { blockHashes } from "./block_hash.ts";

const ids = Int32Array.from({ length: 40 }, (_, i) => 1000 * i);

test("blockHashes() names full blocks only, 32 hex digits each", () => {
  const hashes = blockHashes("model", ids);
  equal(hashes.length, 2);
  for (const hash of hashes) equal(/^[0-9a-f]{32}$/.test(hash), true);
});

test("a name is sha256 over the name before and the ids, first 16 bytes", () => {
  const first16 = (bytes: Uint8Array) =>
    createHash("sha256").update(bytes).digest().subarray(0, 16);
  const little = (begin: number) =>
    Buffer.from(ids.slice(begin, begin + 16).buffer);
  const root = first16(Buffer.from("model"));
  const first = first16(Buffer.concat([root, little(0)]));
  const second = first16(Buffer.concat([first, little(16)]));
  deepEqual(blockHashes("model", ids), [
    first.toString("hex"),
    second.toString("hex"),
  ]);
});

test("a name depends on the model and on every token before", () => {
  const [, second] = blockHashes("model", ids);
  notEqual(blockHashes("other", ids)[1], second);
  notEqual(blockHashes("model", ids.with(0, 7))[1], second);
  equal(blockHashes("model", ids.with(32, 7))[1], second);
});

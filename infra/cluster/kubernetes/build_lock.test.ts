import { equal } from "node:assert/strict";
import { existsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "vitest";
import { tempDir } from "../../../lib/testing/mod.ts";
import { holdLock } from "./build_lock.ts";

test("a lock is waited for while its holder lives, and free afterwards", async () => {
  await using dir = await tempDir("lock");
  const file = join(dir.path, "lock");
  const first = await holdLock(file);
  const waited = Promise.withResolvers<number>();
  const second = holdLock(file, { onWait: waited.resolve });
  equal(await waited.promise, process.pid);
  first[Symbol.dispose]();
  (await second)[Symbol.dispose]();
  equal(existsSync(file), false);
});

test("a lock whose holder is gone is taken over", async () => {
  await using dir = await tempDir("lock");
  const file = join(dir.path, "lock");
  // Our own pid, but of a process that started at another time.
  writeFileSync(file, `${process.pid} 1\n`);
  using _lock = await holdLock(file, {
    onWait: () => {
      throw new Error("waited for a process that is gone");
    },
  });
});

import { equal, ok, rejects } from "node:assert/strict";
import { test } from "vitest";
import { within } from "./within.ts";

test("within() ends with the work", async () => {
  const startMs = performance.now();
  await within(10_000, Promise.resolve("done"));
  ok(performance.now() - startMs < 5_000);
});

test("within() ends without work that takes longer", async () => {
  equal(await within(10, new Promise(() => {})), undefined);
});

test("within() throws what the work throws", async () => {
  await rejects(within(10_000, Promise.reject(new Error("no"))), {
    message: "no",
  });
});

import { deepEqual, equal } from "node:assert/strict";
import { test } from "vitest";
import { createLocalBus } from "../../../lib/bus/mod.ts";
import { waitFor } from "../../../lib/testing/mod.ts";
import { MeshView } from "./mesh_view.ts";

test("a view that stood still is blind until everybody had a turn again", async () => {
  let nowMs = 0;
  await using bus = createLocalBus();
  const stop = new AbortController();
  const view = new MeshView({ nowMs: () => nowMs, settleMs: 3_000 });
  const following = view.follow(bus, stop.signal).catch(() => {});
  const blindAt = (ms: number) => {
    nowMs = ms;
    return view.isBlind();
  };
  deepEqual([0, 1_000, 2_000].map(blindAt), [true, true, true]);
  deepEqual([3_000, 4_000].map(blindAt), [false, false]);
  // The process was stopped for ten seconds: silence is our own deafness.
  deepEqual([14_000, 15_000, 16_000].map(blindAt), [true, true, true]);
  equal(blindAt(17_000), false);
  stop.abort();
  await following;
});

test("a view names models that were heard of, once, and only those that are known", async () => {
  await using bus = createLocalBus();
  const stop = new AbortController();
  const view = new MeshView({ nowMs: () => 0, knows: (name) => name === "m" });
  const following = view.follow(bus, stop.signal).catch(() => {});
  for (const model of ["stranger", "m"]) {
    bus.publishWake({ routerId: "r", model, atMs: 0, held: 1 });
  }
  await waitFor(() => view.traffic("m")?.held(0) === 1);
  deepEqual([...view.takeStirred()], ["m"]);
  deepEqual([...view.takeStirred()], []);
  stop.abort();
  await following;
});

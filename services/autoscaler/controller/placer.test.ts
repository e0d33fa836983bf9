import { deepEqual, equal, ok } from "node:assert/strict";
import { test } from "vitest";
import { Code, MeshError } from "../../../lib/errors/mesh_error.ts";
import { waitFor } from "../../../lib/testing/mod.ts";
import type { ModelFailure } from "../scaling/scaled_model.ts";
import type { Action } from "../scaling/plan_placement.ts";
import { Placer } from "./placer.ts";
import type { WorkerCalls } from "./worker_calls.ts";

type Kind = "load" | "unload" | "sleep" | "wake";

function placerWith(answer: (call: string) => Promise<void> | void) {
  const calls: string[] = [];
  const failures = new Map<string, ModelFailure>();
  const done: string[] = [];
  const noRoom: string[] = [];
  const leads = { now: true };
  const method = (kind: Kind, address: string) => async (model: string) => {
    calls.push(`${kind} ${model} at ${address}`);
    await answer(`${kind} ${model}`);
  };
  const placer = new Placer({
    connect: (address): WorkerCalls => ({
      load: method("load", address),
      unload: async (model) => {
        await method("unload", address)(model);
        return 0;
      },
      sleep: method("sleep", address),
      wake: method("wake", address),
      progress: () => Promise.resolve(0.5),
      [Symbol.dispose]() {},
    }),
    mayAct: () => leads.now,
    addressOf: (workerId) => workerId === "gone" ? undefined : `${workerId}:1`,
    modelOf: (model) =>
      model === "unknown"
        ? undefined
        : { source: { path: "/a" }, drainMs: 1_000 },
    nowMs: () => 0,
    random: () => 1,
    failureOf: (model) => failures.get(model),
    onFailure: (model, failure) => failures.set(model, failure),
    onNoRoom: (workerId, model) => noRoom.push(`${workerId} ${model}`),
    onDone: ({ kind, model }) => done.push(`${kind} ${model}`),
    onProgress() {},
  });
  return { placer, calls, failures, done, noRoom, leads };
}

const act = (kind: Kind, model: string, worker = "w"): Action => ({
  kind,
  worker,
  model,
  why: "test",
});

test("calls to one worker follow one another, those to others do not wait", async () => {
  const { promise: first, resolve: finish } = Promise.withResolvers<void>();
  const { placer, calls, done } = placerWith((call) =>
    call === "unload a" ? first : undefined
  );
  placer.run([act("unload", "a"), act("load", "b"), act("load", "c", "v")]);
  await waitFor(() => done.length === 1);
  deepEqual(calls.toSorted(), ["load c at v:1", "unload a at w:1"]);
  deepEqual([...placer.pendingOf("w")], ["a", "b"]);
  finish();
  await waitFor(() => done.length === 3);
  equal(placer.pendingOf("w").size, 0);
});

test("an action about a model that is being dealt with is left out", async () => {
  const { promise: first, resolve: finish } = Promise.withResolvers<void>();
  const { placer, calls, done } = placerWith(() => first);
  placer.run([act("load", "a")]);
  placer.run([act("load", "a"), act("unload", "a")]);
  finish();
  await waitFor(() => done.length === 1);
  deepEqual(calls, ["load a at w:1"]);
});

test("each failure waits longer, and a worker without room is told of", async () => {
  const { placer, failures, noRoom } = placerWith(() => {
    throw new MeshError(Code.resourceExhausted, "needs 9 bytes, 3 are free");
  });
  for (const [attempt, waitMs] of [[1, 1_000], [2, 2_000], [3, 4_000]]) {
    placer.run([act("load", "a")]);
    await waitFor(() => failures.get("a")?.attempts === attempt);
    equal(failures.get("a")?.notBeforeMs, waitMs);
  }
  ok(failures.get("a")?.message.includes("needs 9 bytes, 3 are free"));
  equal(noRoom.length, 3);
});

test("a model that is there with another source leaves before it is loaded", async () => {
  let isOther = true;
  const { placer, calls, done } = placerWith((call) => {
    if (call !== "load a" || !isOther) return;
    isOther = false;
    // As lib/rpc hands on a status that our codes do not name.
    throw new MeshError(Code.internal, "other source", { cause: { code: 6 } });
  });
  placer.run([act("load", "a")]);
  await waitFor(() => done.length === 1);
  deepEqual(calls, ["load a at w:1", "unload a at w:1", "load a at w:1"]);
});

test("nobody is called about a worker that is gone or a model that is not described", async () => {
  const { placer, calls, done } = placerWith(() => {});
  placer.run([act("load", "a", "gone"), act("load", "unknown")]);
  await waitFor(() =>
    placer.pendingOf("gone").size + placer.pendingOf("w").size === 0
  );
  deepEqual(calls, []);
  // Nobody is told that a model was loaded.
  deepEqual(done, []);
});

test("after it was disposed nothing more is called, and nothing counts as failed", async () => {
  const { promise: first, reject } = Promise.withResolvers<void>();
  const { placer, calls, failures } = placerWith(() => first);
  placer.run([act("load", "a"), act("load", "b")]);
  await waitFor(() => calls.length === 1);
  placer[Symbol.dispose]();
  reject(new Error("cut off"));
  await waitFor(() => placer.pendingOf("w").size === 0);
  deepEqual(calls, ["load a at w:1"]);
  equal(failures.size, 0);
});

test("a model that is taken away overtakes its own load, which is no failure then", async () => {
  const { promise: load, reject: stop } = Promise.withResolvers<void>();
  const { placer, calls, failures, done } = placerWith((call) => {
    if (call === "load a") return load;
    // A worker ends a load for an unload.
    if (call === "unload a") stop(new Error("its load was stopped"));
  });
  placer.run([act("load", "a"), act("load", "b")]);
  await waitFor(() => calls.length === 1);
  placer.takeAway("w", "a", "deleted");
  placer.takeAway("w", "a", "deleted");
  await waitFor(() => done.length === 2);
  deepEqual(calls, ["load a at w:1", "unload a at w:1", "load b at w:1"]);
  deepEqual(done.toSorted(), ["load b", "unload a"]);
  equal(failures.size, 0);
  equal(placer.pendingOf("w").size, 0);
});

test("a load that has not begun is not begun for a model that is taken away", async () => {
  const { promise: first, resolve: finish } = Promise.withResolvers<void>();
  const { placer, calls, done } = placerWith((call) =>
    call === "load a" ? first : undefined
  );
  placer.run([act("load", "a"), act("load", "b")]);
  await waitFor(() => calls.length === 1);
  placer.takeAway("w", "b", "deleted");
  await waitFor(() => done.includes("unload b"));
  finish();
  await waitFor(() => done.includes("load a"));
  deepEqual(calls, ["load a at w:1", "unload b at w:1"]);
});

test("unloading what is not there is done, not failed", async () => {
  const { placer, failures, done } = placerWith(() => {
    throw new MeshError(Code.notFound, "no such model");
  });
  placer.run([act("unload", "a")]);
  await waitFor(() => done.length === 1);
  equal(failures.size, 0);
});

test("nothing is called while another one may lead", async () => {
  const { placer, calls, failures, leads } = placerWith(() => {});
  leads.now = false;
  placer.run([act("load", "a")]);
  await waitFor(() => placer.pendingOf("w").size === 0);
  deepEqual(calls, []);
  equal(failures.size, 0);
});

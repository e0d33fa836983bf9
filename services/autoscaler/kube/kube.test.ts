import { deepEqual, equal, ok, rejects } from "node:assert/strict";
import { test } from "vitest";
import { createFakeClock, waitFor } from "../../../lib/testing/mod.ts";
import { Applier, contains, withoutField } from "./apply.ts";
import { backoffMs } from "./backoff.ts";
import { EventRecorder } from "./events.ts";
import { Informer, type InformerNote } from "./informer.ts";
import { boundTo } from "./kube_client.ts";
import { KubeError } from "./kube_error.ts";
import { type KubeObject, resourceTypes } from "./objects.ts";
import { parseQuantity } from "./quantity.ts";
import { gone, scriptedKube } from "./testing.ts";
import { WorkQueue } from "./work_queue.ts";

const object = (name: string, version: number): KubeObject => ({
  metadata: { name, namespace: "ns", resourceVersion: `${version}` },
});

const event = (type: string, name: string, version: number) =>
  JSON.stringify({ type, object: object(name, version) });

const listOf = (version: number, ...items: KubeObject[]) => ({
  metadata: { resourceVersion: `${version}` },
  items,
});

function informerOn(
  client: ReturnType<typeof scriptedKube>,
  stop: AbortController,
) {
  const story: string[] = [];
  const notes: InformerNote["kind"][] = [];
  const informer = new Informer({
    client,
    type: resourceTypes.configMap,
    namespace: "ns",
    random: () => 0,
    onChange: (name, found) => story.push(`${found ? "has" : "lost"} ${name}`),
    onNote: ({ kind }) => notes.push(kind),
  });
  return { informer, story, notes, running: informer.run(stop.signal) };
}

test("an informer lists, follows, and goes on from where a watch ended", async () => {
  const client = scriptedKube(
    [listOf(5, object("a", 3))],
    [
      [event("ADDED", "b", 6), event("BOOKMARK", "", 9)],
      [event("DELETED", "a", 10)],
    ],
  );
  const stop = new AbortController();
  const { informer, story, running } = informerOn(client, stop);
  await waitFor(() => story.includes("lost a"));
  deepEqual(story, ["has a", "has b", "lost a"]);
  deepEqual(
    client.requests.slice(1).map(({ query }) => query?.resourceVersion),
    ["5", "9"],
  );
  deepEqual(informer.list().map(({ metadata }) => metadata.name), ["b"]);
  stop.abort();
  await running;
});

test("an informer lists again when history is gone, and reports what vanished meanwhile", async () => {
  const client = scriptedKube(
    [listOf(5, object("a", 3), object("b", 4)), listOf(20, object("b", 4))],
    [gone(), []],
  );
  const stop = new AbortController();
  const { story, notes, running } = informerOn(client, stop);
  await waitFor(() => story.includes("lost a"));
  deepEqual(notes, ["listed", "expired", "listed"]);
  stop.abort();
  await running;
});

const badLines = [
  ["no JSON", "{"],
  ["no object", JSON.stringify({ type: "ADDED" })],
  [
    "no version",
    JSON.stringify({ type: "ADDED", object: { metadata: { name: "x" } } }),
  ],
  ["an unknown type", event("RENAMED", "x", 7)],
  ["null", "null"],
];

for (const [label, line] of badLines) {
  test(`an informer counts a watch line with ${label} and lists again`, async () => {
    const client = scriptedKube(
      [listOf(5), listOf(6, object("late", 6))],
      [[line], []],
    );
    const stop = new AbortController();
    const { story, notes, running } = informerOn(client, stop);
    await waitFor(() => story.includes("has late"));
    deepEqual(notes, ["listed", "malformed", "listed"]);
    stop.abort();
    await running;
  });
}

test("an informer reads a list page by page", async () => {
  const client = scriptedKube([
    {
      ...listOf(5, object("a", 1)),
      metadata: { resourceVersion: "5", continue: "next" },
    },
    listOf(5, object("b", 2)),
  ], [[]]);
  const stop = new AbortController();
  const { informer, running } = informerOn(client, stop);
  await informer.synced;
  equal(informer.size, 2);
  equal(client.requests[1].query?.continue, "next");
  stop.abort();
  await running;
});

test("absorb() takes newer objects only", () => {
  const informer = new Informer({
    client: scriptedKube([]),
    type: resourceTypes.configMap,
    namespace: "ns",
    random: () => 0,
    onChange() {},
  });
  informer.absorb(object("a", 10));
  informer.absorb(object("a", 9));
  equal(informer.get("a")?.metadata.resourceVersion, "10");
});

const withUid = (name: string, uid: string, version: number): KubeObject => ({
  metadata: { name, namespace: "ns", uid, resourceVersion: `${version}` },
});

const told = (type: string, found: KubeObject) =>
  JSON.stringify({ type, object: found });

test("the answer to a write does not bring back an object that is gone", async () => {
  const client = scriptedKube([listOf(5, withUid("a", "1", 3))], [
    [told("DELETED", withUid("a", "1", 6))],
    [],
  ]);
  const stop = new AbortController();
  const { informer, story, running } = informerOn(client, stop);
  await waitFor(() => story.includes("lost a"));
  informer.absorb(withUid("a", "1", 4));
  equal(informer.get("a"), undefined);
  // Another one of that name is another object.
  informer.absorb(withUid("a", "2", 7));
  equal(informer.get("a")?.metadata.uid, "2");
  stop.abort();
  await running;
});

test("news of an earlier change does not replace what a write was answered with", async () => {
  const { promise: gate, resolve: open } = Promise.withResolvers<void>();
  const scripted = scriptedKube([listOf(5, withUid("a", "1", 3))], [
    [told("MODIFIED", withUid("a", "1", 6))],
    [],
  ]);
  const client = {
    ...scripted,
    async *lines(request: Parameters<typeof scripted.lines>[0]) {
      await gate;
      yield* scripted.lines(request);
    },
  };
  const stop = new AbortController();
  const { informer, story, running } = informerOn(client, stop);
  await informer.synced;
  informer.absorb(withUid("a", "1", 8));
  open();
  await waitFor(() => story.length === 2);
  equal(informer.get("a")?.metadata.resourceVersion, "8");
  stop.abort();
  await running;
});

test("an informer lists again when a watch reports an error that is not 410", async () => {
  const client = scriptedKube(
    [listOf(5), listOf(6, object("late", 6))],
    [[JSON.stringify({ type: "ERROR", object: { code: 500 } })], []],
  );
  const stop = new AbortController();
  const { story, notes, running } = informerOn(client, stop);
  await waitFor(() => story.includes("has late"));
  deepEqual(notes, ["listed", "failed", "listed"]);
  stop.abort();
  await running;
});

test("watches that end at once are opened again ever more slowly", async () => {
  const client = scriptedKube(
    [listOf(5)],
    Array.from({ length: 99 }, () => []),
  );
  const stop = new AbortController();
  const { running } = informerOn(client, stop);
  // 100, 200, 400 ms: three watches and a list fit, not thousands.
  await new Promise((resolve) => setTimeout(resolve, 500));
  ok(client.requests.length <= 5, `${client.requests.length} requests`);
  stop.abort();
  await running;
});

test("a key comes back no sooner than a server that is overloaded wants", async () => {
  const clock = createFakeClock();
  let attempts = 0;
  const waits: number[] = [];
  await using queue = new WorkQueue({
    clock,
    random: () => 0,
    // deno-lint-ignore require-await
    work: async () => {
      attempts++;
      throw new KubeError({ code: 429, message: "busy", retryAfterMs: 7_000 });
    },
    onFailure: (_key, _reason, waitMs) => waits.push(waitMs),
  });
  queue.add("a");
  await waitFor(() => attempts === 1);
  deepEqual(waits, [7_000]);
});

test("a client that may not write reads on", async () => {
  const server = scriptedKube([{ ok: true }]);
  const stop = new AbortController();
  let mayWrite = true;
  const client = boundTo(server, stop.signal, () => mayWrite);
  await client.call({ method: "PATCH", path: "/a" });
  mayWrite = false;
  await rejects(client.call({ method: "PATCH", path: "/a" }), /may lead/);
  await client.call({ path: "/a" });
  equal(server.requests.length, 2);
});

test("a queue works on a key once at a time, and again when it was added meanwhile", async () => {
  const clock = createFakeClock();
  const starts: string[] = [];
  let finish = () => {};
  const queue = new WorkQueue({
    clock,
    random: () => 0,
    work: (key) => {
      starts.push(key);
      return new Promise((resolve) => finish = resolve);
    },
    onFailure() {},
  });
  queue.add("a");
  queue.add("a");
  await waitFor(() => starts.length === 1);
  queue.add("a");
  equal(starts.length, 1);
  finish();
  await waitFor(() => starts.length === 2);
  finish();
  await queue[Symbol.asyncDispose]();
});

test("a key that fails waits longer each time, and others do not wait for it", async () => {
  const clock = createFakeClock();
  const worked: string[] = [];
  const waits: number[] = [];
  await using queue = new WorkQueue({
    clock,
    // No chance: the whole wait.
    random: () => 1,
    // deno-lint-ignore require-await
    work: async (key) => {
      worked.push(key);
      if (key === "bad") throw new Error("no");
    },
    onFailure: (_key, _reason, waitMs) => waits.push(waitMs),
  });
  queue.add("bad");
  queue.add("good");
  await waitFor(() => worked.length === 2);
  for (let round = 1; round <= 3; round++) {
    await waitFor(() => waits.length === round);
    clock.advance(waits[round - 1]);
  }
  await waitFor(() => waits.length === 4);
  deepEqual(waits, [100, 200, 400, 800]);
  deepEqual(worked.filter((key) => key === "good"), ["good"]);
});

test("work that asks to come back does so, unless it is due earlier", async () => {
  const clock = createFakeClock();
  let count = 0;
  await using queue = new WorkQueue({
    clock,
    random: () => 0,
    work: () => Promise.resolve(++count < 3 ? 1_000 : undefined),
    onFailure() {},
  });
  queue.add("a");
  await waitFor(() => count === 1 && clock.timerCount === 1);
  clock.advance(1_000);
  await waitFor(() => count === 2 && clock.timerCount === 1);
  queue.add("a");
  await waitFor(() => count === 3);
  equal(clock.timerCount, 0);
});

test("backoffMs() doubles up to its maximum and leaves half of it to chance", () => {
  const options = { firstMs: 100, maxMs: 1_000 };
  deepEqual(
    [1, 2, 3, 4, 5, 100].map((failures) =>
      backoffMs(failures, { ...options, random: () => 1 })
    ),
    [100, 200, 400, 800, 1_000, 1_000],
  );
  equal(backoffMs(3, { ...options, random: () => 0 }), 200);
});

const deployment: KubeObject = {
  apiVersion: "apps/v1",
  kind: "Deployment",
  metadata: { name: "w", namespace: "ns", labels: { "a.b/c": "1" } },
  spec: {
    replicas: 1,
    containers: [{ name: "worker", image: "x", ports: [{ containerPort: 1 }] }],
  },
};

test("apply() sends nothing while wish and object are as they were", async () => {
  const stored = {
    ...deployment,
    metadata: { ...deployment.metadata, uid: "u", resourceVersion: "1" },
  };
  const client = scriptedKube([stored]);
  const applier = new Applier({ client, manager: "us" });
  const request = { type: resourceTypes.deployment, desired: deployment };
  equal((await applier.apply({ ...request, live: undefined })).kind, "applied");
  // A changed status and version are no change of ours.
  const live = {
    ...stored,
    metadata: { ...stored.metadata, resourceVersion: "9" },
    status: { readyReplicas: 1 },
  };
  equal((await applier.apply({ ...request, live })).kind, "unchanged");
  equal(client.requests.length, 1);
  const drifted = { ...live, spec: { replicas: 7 } };
  equal((await applier.apply({ ...request, live: drifted })).kind, "applied");
});

test("an applier that starts afresh sends nothing for what an earlier one applied", async () => {
  const first = scriptedKube([(request: { body?: unknown }) => request.body]);
  const applied = await new Applier({ client: first, manager: "us" }).apply({
    type: resourceTypes.deployment,
    desired: deployment,
    live: undefined,
  });
  ok(applied.kind === "applied");
  // Items of a list have neither version nor kind, and what the server adds.
  const { apiVersion: _apiVersion, kind: _kind, ...item } = applied.object;
  const live = { ...item, status: { replicas: 1 } };
  const second = scriptedKube([new Error("nothing is to be sent")]);
  const applier = new Applier({ client: second, manager: "us" });
  const outcome = await applier.apply({
    type: resourceTypes.deployment,
    desired: deployment,
    live,
  });
  equal(outcome.kind, "unchanged");
});

test("apply() leaves fields that others own, and says whose", async () => {
  const conflict = new KubeError({
    code: 409,
    message: "conflict",
    causes: [{
      reason: "FieldManagerConflict",
      message: 'conflict with "kubectl" using apps/v1',
      field: '.spec.containers[name="worker"].image',
    }],
  });
  const client = scriptedKube([conflict, deployment]);
  const outcome = await new Applier({ client, manager: "us" }).apply({
    type: resourceTypes.deployment,
    desired: deployment,
    live: undefined,
  });
  ok(outcome.kind === "applied");
  deepEqual(outcome.conflicts, [{
    field: '.spec.containers[name="worker"].image',
    manager: "kubectl",
  }]);
  const sent = client.requests[1].body as typeof deployment;
  deepEqual((sent.spec as { containers: unknown }).containers, [
    { name: "worker", ports: [{ containerPort: 1 }] },
  ]);
  ok(client.requests.every(({ query }) => query?.force === "false"));
});

test("apply() throws what is no conflict of fields", async () => {
  const client = scriptedKube([new KubeError({ code: 409, message: "busy" })]);
  const applier = new Applier({ client, manager: "us" });
  let reason: unknown;
  await applier.apply({
    type: resourceTypes.deployment,
    desired: deployment,
    live: undefined,
  }).catch((error) => reason = error);
  ok(reason instanceof KubeError);
});

const fields = [
  [".spec.replicas", (o: KubeObject) => !("replicas" in (o.spec as object))],
  [
    ".metadata.labels.a.b/c",
    (o: KubeObject) => !("a.b/c" in o.metadata.labels!),
  ],
  [
    '.spec.containers[name="worker"].ports[containerPort=1]',
    (o: KubeObject) =>
      (o.spec as { containers: { ports: unknown[] }[] }).containers[0].ports
        .length === 0,
  ],
  [
    ".spec.nothing.here",
    (o: KubeObject) => JSON.stringify(o) === JSON.stringify(deployment),
  ],
] as const;

for (const [field, holds] of fields) {
  test(`withoutField() drops ${field} and nothing else`, () => {
    const rest = withoutField(deployment, field);
    ok(holds(rest), JSON.stringify(rest));
    equal(rest.kind, "Deployment");
  });
}

test("contains() sees through what the server respells or adds", () => {
  ok(contains({ cpu: "2", extra: 1 }, { cpu: 2 }));
  ok(contains({ memory: "1Gi" }, { memory: "1024Mi" }));
  ok(contains({}, { emptyDir: {} }));
  ok(!contains({ cpu: "2" }, { cpu: "3" }));
  ok(!contains({ list: [1, 2] }, { list: [1] }));
});

test("parseQuantity() reads every suffix and refuses the rest", () => {
  deepEqual(
    ["500m", "2Gi", "1e3", "3", "0.5k", 4].map(parseQuantity),
    [0.5, 2 ** 31, 1_000, 3, 500, 4],
  );
  deepEqual(["", "2Zi", "x", "1 Gi"].map(parseQuantity), [
    undefined,
    undefined,
    undefined,
    undefined,
  ]);
});

test("repeated events are counted in one, and a flood about one object is cut off", async () => {
  let nowMs = 1_000_000;
  const client = scriptedKube([{}]);
  const recorder = new EventRecorder({
    client,
    component: "us",
    instance: "a",
    nowMs: () => nowMs,
    onFailure: (reason) => {
      throw reason;
    },
  });
  const about: KubeObject = {
    metadata: { name: "m", namespace: "ns", uid: "u" },
  };
  const note = { about, type: "Normal" as const, reason: "R" };
  for (let i = 0; i < 5; i++) recorder.record({ ...note, message: "same" });
  await recorder.flush();
  equal(client.requests.length, 1);
  nowMs += 11_000;
  recorder.record({ ...note, message: "same" });
  await recorder.flush();
  equal(client.requests[1].method, "PATCH");
  equal((client.requests[1].body as { count: number }).count, 6);
  for (let i = 0; i < 100; i++) recorder.record({ ...note, message: `${i}` });
  await recorder.flush();
  ok(client.requests.length <= 22, `${client.requests.length} requests`);
});

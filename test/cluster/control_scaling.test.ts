/** Scaling on a real API server: pods that are played, workers that speak the real protocols. */
import { equal, ok } from "node:assert/strict";
import { afterAll, beforeAll, expect, test } from "vitest";
import { waitFor } from "../../lib/testing/mod.ts";
import { install, type Installation } from "./support/installation.ts";
import {
  conditionOf,
  model,
  pool,
  type StatusObject,
} from "./support/test_cluster.ts";

let it: Installation;

beforeAll(async () => {
  it = await install();
});
afterAll(async () => {
  await it?.[Symbol.asyncDispose]();
});

const replicasOf = (object: StatusObject) =>
  (object.spec as { replicas: number }).replicas;

test("a held request brings a pod, the model onto it, and idleness takes both away", async () => {
  const quick = { policy: "target", idleSeconds: 1 };
  await it.kube.apply(
    pool("cpu", { scaling: { replicasMax: 3, idleSeconds: 1 } }),
    model("alpha", { scaling: { ...quick, targetPerReplica: 2 } }),
  );
  await it.until("models", "alpha", ({ status }) => status?.state === "Absent");
  await it.until(
    "deployments",
    "cpu-workers",
    (object) => replicasOf(object) === 0,
  );

  it.router.hold("alpha", 1);
  await it.until(
    "deployments",
    "cpu-workers",
    (object) => replicasOf(object) === 1,
  );
  const running = await it.until(
    "models",
    "alpha",
    ({ status }) => status?.state === "Running" && status.coldStart,
  );
  equal(running.status?.ready, "1/1");
  equal(conditionOf(running, "Ready")?.status, "True");
  const [first] = it.node.workers.values();
  expect(first.calls).toEqual(["load alpha"]);

  // The held request runs now, and more come: two workers at two each.
  it.router.hold("alpha", 0);
  it.router.run("alpha", 4);
  await first.setRunning("alpha", 4);
  await it.until(
    "deployments",
    "cpu-workers",
    (object) => replicasOf(object) === 2,
  );
  await it.until("models", "alpha", ({ status }) => status?.ready === "2/2");

  it.router.run("alpha", 0);
  await first.setRunning("alpha", 0);
  await it.until(
    "deployments",
    "cpu-workers",
    (object) => replicasOf(object) === 0,
    45_000,
  );
  await waitFor(() => it.node.workers.size === 0, { timeoutMs: 20_000 });
  const idle = await it.until(
    "models",
    "alpha",
    ({ status }) => status?.state === "Absent",
  );
  ok((idle.status?.decisions as unknown[]).length > 0);
});

test("a pool keeps its last pod while a request runs on it, however long the model is idle otherwise", async () => {
  await it.kube.apply(
    pool("busy", { scaling: { replicasMax: 1, idleSeconds: 0 } }),
    model("beta", { pool: "busy", scaling: { idleSeconds: 0 } }),
  );
  await it.until("models", "beta", ({ status }) => status?.state === "Absent");
  it.router.hold("beta", 1);
  await it.until("models", "beta", ({ status }) => status?.state === "Running");
  const worker = [...it.node.workers.values()]
    .find(({ podName }) => podName.startsWith("busy-"))!;
  // Known from the worker alone: the router that had it may be gone.
  await worker.setRunning("beta", 1);
  it.router.hold("beta", 0);
  const decidedMs = Date.now();
  await waitFor(() => Date.now() - decidedMs > 15_000, { timeoutMs: 20_000 });
  equal(
    replicasOf(
      (await it.kube.get<StatusObject>("deployments", "busy-workers"))!,
    ),
    1,
  );
  ok(worker.models.has("beta"));
  await worker.setRunning("beta", 0);
  await it.until(
    "deployments",
    "busy-workers",
    (object) => replicasOf(object) === 0,
    30_000,
  );
});

test("two models that do not fit together take turns on one worker", async () => {
  await it.kube.apply(
    pool("small", {
      scaling: { replicasMin: 1, replicasMax: 1 },
      runtime: { modelMemory: "8Mi" },
    }),
    model("gamma", { pool: "small", size: "5Mi", scaling: { idleSeconds: 1 } }),
    model("delta", { pool: "small", size: "5Mi", scaling: { idleSeconds: 1 } }),
  );
  await it.until(
    "workerpools",
    "small",
    ({ status }) => status?.ready === "1/1",
  );
  it.router.hold("gamma", 1);
  await it.until(
    "models",
    "gamma",
    ({ status }) => status?.state === "Running",
  );
  it.router.hold("gamma", 0);
  it.router.hold("delta", 1);
  await it.until(
    "models",
    "delta",
    ({ status }) => status?.state === "Running",
    60_000,
  );
  it.router.hold("delta", 0);
});

test("a model whose load fails says why, and is tried again", async () => {
  await it.kube.apply(
    pool("odd", { scaling: { replicasMin: 1, replicasMax: 1 } }),
    model("epsilon", { pool: "odd", scaling: { replicasMin: 1 } }),
  );
  await it.until(
    "models",
    "epsilon",
    ({ status }) => status?.state === "Running",
  );
  const worker = [...it.node.workers.values()]
    .find(({ podName }) => podName.startsWith("odd-"))!;
  worker.broken.add("zeta");
  await it.kube.apply(
    model("zeta", { pool: "odd", scaling: { replicasMin: 1 } }),
  );
  const failed = await it.until(
    "models",
    "zeta",
    (object) => conditionOf(object, "Ready")?.reason === "LoadFailed",
  );
  expect(conditionOf(failed, "Ready")?.message).toMatch(/its file is cut off/);
  await waitFor(
    () => worker.calls.filter((call) => call === "load zeta").length >= 3,
    { timeoutMs: 20_000 },
  );
  worker.broken.delete("zeta");
  await it.until(
    "models",
    "zeta",
    ({ status }) => status?.state === "Running",
    40_000,
  );
});

test("nothing is decided while NATS is away, and held requests count as soon as it is back", async () => {
  await it.kube.apply(
    pool("calm", { scaling: { replicasMax: 1, idleSeconds: 0 } }),
    model("eta", { pool: "calm", scaling: { idleSeconds: 0 } }),
  );
  it.router.hold("eta", 1);
  await it.until("models", "eta", ({ status }) => status?.state === "Running");
  const [worker] = [...it.node.workers.values()]
    .filter(({ podName }) => podName.startsWith("calm-"));
  await it.nats.kill();
  it.router.hold("eta", 0);
  const stale = await it.until(
    "workerpools",
    "calm",
    (object) => conditionOf(object, "SignalsFresh")?.status === "False",
    60_000,
  );
  equal(conditionOf(stale, "SignalsFresh")?.reason, "NatsUnreachable");
  const downMs = Date.now();
  await waitFor(() => Date.now() - downMs > 12_000, { timeoutMs: 20_000 });
  equal(
    replicasOf(
      (await it.kube.get<StatusObject>("deployments", "calm-workers"))!,
    ),
    1,
  );
  await it.nats.restart();
  await it.until(
    "workerpools",
    "calm",
    (object) => conditionOf(object, "SignalsFresh")?.status === "True",
  );
  await it.until(
    "deployments",
    "calm-workers",
    (object) => replicasOf(object) === 0,
    40_000,
  );
  ok(worker);
  it.router.hold("eta", 1);
  await it.until("models", "eta", ({ status }) => status?.state === "Running");
  it.router.hold("eta", 0);
});

test("a number set with kubectl scale holds until it is removed", async () => {
  await it.kube.apply(
    pool("hand", {
      scaling: { replicasMin: 0, replicasMax: 5, idleSeconds: 0 },
    }),
  );
  await it.until(
    "deployments",
    "hand-workers",
    (object) => replicasOf(object) === 0,
  );
  const { kubectl } = it.kube.cluster;
  await kubectl(["scale", "-n", "quetzal", "workerpool/hand", "--replicas=2"]);
  await it.until(
    "deployments",
    "hand-workers",
    (object) => replicasOf(object) === 2,
  );
  await it.until(
    "workerpools",
    "hand",
    ({ status }) => status?.ready === "2/2" && status.reason === "manual",
  );
  await kubectl([
    "patch",
    "-n",
    "quetzal",
    "workerpool/hand",
    "--type=json",
    '-p=[{"op":"remove","path":"/spec/replicas"}]',
  ]);
  await it.until(
    "deployments",
    "hand-workers",
    (object) => replicasOf(object) === 0,
  );
});

test(
  "a wake message is acted upon at once: an apply of one's own takes hardly less",
  async () => {
    const count = 40;
    const names = Array.from({ length: count }, (_, i) => `wake-${i}`);
    await it.kube.apply(
      ...names.map((name) => pool(name, { scaling: { replicasMax: 1 } })),
      ...names.map((name) => model(name, { pool: name })),
    );
    for (const name of names) {
      await it.until(
        "models",
        name,
        ({ status }) => status?.state === "Absent",
      );
    }
    const { wakes, patches } = await measureWakes(names);
    const told = (label: string, all: number[]) =>
      `${label} p50 ${at(all, 0.5).toFixed(0)}, p99 ${
        at(all, 0.99).toFixed(0)
      } ms`;
    console.log(
      `${told("wake to patched replicas, seen by a watch:", wakes)}; ${
        told("one apply by the test itself:", patches)
      } (${count} each, in turn)`,
    );
    // What the machine is busy with besides is in both.
    const overheadMs = at(wakes, 0.5) - at(patches, 0.5);
    ok(overheadMs <= 250, `the controller takes ${overheadMs} ms of its own`);
  },
  300_000,
);

function at(values: readonly number[], share: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.ceil(share * sorted.length) - 1];
}

/** Wakes each model in turn, with a watch open that sees the Deployments change. */
async function measureWakes(names: readonly string[]) {
  const seen = new Map<string, number>();
  const stop = new AbortController();
  const watching = (async () => {
    const lines = it.kube.client.lines({
      path: "/apis/apps/v1/namespaces/quetzal/deployments",
      query: { watch: "true" },
      signal: stop.signal,
    });
    for await (const line of lines) {
      const { object } = JSON.parse(line);
      if (object.spec.replicas === 1 && !seen.has(object.metadata.name)) {
        seen.set(object.metadata.name, performance.now());
      }
    }
  })().catch(() => {
    // Stopped.
  });
  const wakes: number[] = [];
  const patches: number[] = [];
  for (const name of names) {
    const startMs = performance.now();
    it.router.wake(name);
    const atMs = await waitFor(() => seen.get(`${name}-workers`), {
      what: `${name} to be scaled`,
      intervalMs: 2,
      timeoutMs: 30_000,
    });
    wakes.push(atMs - startMs);
    // The pod starts and loads its model: the next wake waits for that to be over.
    await it.until(
      "models",
      name,
      ({ status }) => status?.state === "Running",
      60_000,
    );
    patches.push(await timeOfOnePatch(name));
  }
  stop.abort();
  await watching;
  return { wakes, patches };
}

/** An apply of one field of a Deployment that nobody else wants. */
async function timeOfOnePatch(name: string): Promise<number> {
  const startMs = performance.now();
  await it.kube.client.call({
    method: "PATCH",
    path: `/apis/apps/v1/namespaces/quetzal/deployments/${name}-workers`,
    query: { fieldManager: "test" },
    contentType: "application/apply-patch+yaml",
    body: {
      apiVersion: "apps/v1",
      kind: "Deployment",
      metadata: { name: `${name}-workers`, annotations: { measured: "yes" } },
    },
  });
  return performance.now() - startMs;
}

/** The whole controller over an API server, a mesh and workers in memory. */
import { deepEqual, equal, ok } from "node:assert/strict";
import { trace } from "@opentelemetry/api";
import { afterEach, test } from "vitest";
import { createLocalBus } from "../../../lib/bus/mod.ts";
import type { Bus, WorkerModelState } from "../../../lib/bus/types.ts";
import {
  workerModel,
  workerRecord,
} from "../../../lib/bus/testing/worker_records.ts";
import { createLogger, createRegistry } from "../../../lib/telemetry/mod.ts";
import { waitFor } from "../../../lib/testing/mod.ts";
import { hashOf, KubeError, type KubeObject } from "../kube/mod.ts";
import { MemoryKube } from "../kube/memory_kube.ts";
import { createControllerMetrics } from "../metrics.ts";
import { Controller } from "./controller.ts";
import type { ModelObject } from "./resources.ts";

const ours = "/apis/quetzal.dev/v1alpha1/namespaces/ns";
const models = `${ours}/models`;
const pools = `${ours}/workerpools`;
const pods = "/api/v1/namespaces/ns/pods";
const deployment = "/apis/apps/v1/namespaces/ns/deployments/p-workers";

const open: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const close of open.splice(0).reverse()) await close();
});

/** One pool with one pod, whose worker does what it is told when `finish` says so. */
function world() {
  const kube = new MemoryKube();
  const bus = createLocalBus();
  open.push(async () => await bus[Symbol.asyncDispose]());
  const calls: string[] = [];
  const loads = new Map<string, (error?: Error) => void>();
  const register = (states: Record<string, WorkerModelState>) =>
    bus.putWorker(workerRecord("w", {
      podName: "p-1",
      models: Object.entries(states).map(([model, state]) =>
        workerModel(model, { state })
      ),
    }));
  const state = { kube, bus, calls, loads, register };
  return {
    ...state,
    /** Answers of `unload`; at once unless set. */
    unload: async (model: string): Promise<void> => {
      loads.get(model)?.(new Error("its load was stopped"));
      await register({});
    },
    run(joined: Promise<Bus> = Promise.resolve(bus)) {
      start(this, joined);
    },
    model: (name = "m") => kube.get<ModelObject>(`${models}/${name}`),
  };
}

function start(it: ReturnType<typeof world>, joined: Promise<Bus>): void {
  const controller = new Controller({
    client: it.kube,
    namespace: "ns",
    identity: "test",
    defaults: {
      image: "i",
      natsUrl: "nats://n:4222",
      natsSecret: undefined,
      otlpEndpoint: undefined,
    },
    log: createLogger({ service: "test", level: "silent", pretty: false }),
    metrics: createControllerMetrics(createRegistry()),
    tracer: trace.getTracer("test"),
    tickMs: 20,
    resyncMs: 600_000,
    settleMs: 50,
    connect: () => ({
      load(model, source) {
        it.calls.push(`load ${model} ${source.path}`);
        return new Promise((resolve, reject) =>
          it.loads.set(model, (error) => error ? reject(error) : resolve())
        );
      },
      async unload(model) {
        it.calls.push(`unload ${model}`);
        await it.unload(model);
        return 0;
      },
      sleep: () => Promise.resolve(),
      wake: () => Promise.resolve(),
      progress: () => Promise.resolve(undefined),
      [Symbol.dispose]() {},
    }),
  });
  const stop = new AbortController();
  const running = controller.run(joined, stop.signal);
  open.push(async () => {
    stop.abort(new Error("The test ends"));
    await running;
  });
}

function putPool(kube: MemoryKube): void {
  kube.put(pools, object("WorkerPool", "p", { scaling: { replicasMin: 1 } }));
}

function putPod(kube: MemoryKube): void {
  kube.put(pods, {
    metadata: {
      name: "p-1",
      namespace: "ns",
      labels: { "quetzal.dev/pool": "p" },
    },
    spec: { nodeName: "n" },
    status: {
      phase: "Running",
      conditions: [{ type: "Ready", status: "True" }],
    },
  });
}

function object(kind: string, name: string, spec: Record<string, unknown>) {
  return {
    apiVersion: "quetzal.dev/v1alpha1",
    kind,
    metadata: { name, namespace: "ns" },
    spec,
  };
}

function putModel(kube: MemoryKube, path: string, status?: object): void {
  const before = kube.get(`${models}/m`);
  kube.put(models, {
    ...object("Model", "m", {
      source: { path },
      pool: "p",
      scaling: { replicasMin: 1 },
    }),
    metadata: { ...before?.metadata, name: "m", namespace: "ns" },
    ...status
      ? { status: { ...status } }
      : before && "status" in before
      ? { status: before.status as Record<string, unknown> }
      : {},
  });
}

/** The world with its pool, pod and Model, before the controller looks at it. */
function withModel(path: string, status?: object) {
  const it = world();
  putPool(it.kube);
  putPod(it.kube);
  putModel(it.kube, path, status);
  return it;
}

test("a Model that is deleted while a worker loads it stops the load, and goes", async () => {
  const it = withModel("/old");
  it.run();
  await it.register({});
  await waitFor(() => it.calls.length === 1);
  await it.register({ m: "loading" });
  it.kube.remove(`${models}/m`);
  await waitFor(() => it.model() === undefined, { timeoutMs: 5_000 });
  deepEqual(it.calls, ["load m /old", "unload m"]);
});

test("a source that changes while the old one is being loaded is loaded instead", async () => {
  const it = withModel("/old");
  it.run();
  await it.register({});
  await waitFor(() => it.calls.length === 1);
  await it.register({ m: "loading" });
  await waitFor(() => it.model()?.status?.sourceHash !== undefined);
  putModel(it.kube, "/new");
  await waitFor(() => it.calls.length === 3, { timeoutMs: 5_000 });
  deepEqual(it.calls, ["load m /old", "unload m", "load m /new"]);
  it.loads.get("m")!();
  await it.register({ m: "running" });
  await waitFor(() => it.model()?.status?.state === "Running");
  equal(it.model()?.status?.sourceHash, hashOf({ path: "/new" }));
});

test("a source that changed while nobody could see the workers is taken up when they are seen", async () => {
  const it = withModel("/new", { sourceHash: hashOf({ path: "/old" }) });
  await it.register({ m: "running" });
  const { promise: joined, resolve: join } = Promise.withResolvers<Bus>();
  it.run(joined);
  await waitFor(() => it.model()?.status?.state !== undefined);
  equal(it.model()?.status?.sourceHash, hashOf({ path: "/old" }));
  join(it.bus);
  await waitFor(() => it.calls.length === 2, { timeoutMs: 5_000 });
  deepEqual(it.calls, ["unload m", "load m /new"]);
});

test("a drain has its whole time, whatever the API server's clock says", async () => {
  const it = withModel("/a");
  const { promise: drained, resolve: finish } = Promise.withResolvers<void>();
  const unload = it.unload;
  it.unload = async (model) => {
    await drained;
    await unload(model);
  };
  it.run();
  await it.register({ m: "running" });
  await waitFor(() => it.model()?.status?.state === "Running");
  it.kube.remove(`${models}/m`, Date.now() - 3_600_000);
  await waitFor(() => it.calls.includes("unload m"));
  await new Promise((resolve) => setTimeout(resolve, 300));
  ok(it.model(), "it went while its requests ran");
  finish();
  await waitFor(() => it.model() === undefined, { timeoutMs: 5_000 });
});

test("a Model whose pool is deleted says so, and is served again by one of that name", async () => {
  const it = withModel("/a");
  it.run();
  await it.register({ m: "running" });
  await waitFor(() => it.model()?.status?.state === "Running");
  const replicas = () =>
    (it.kube.get<KubeObject>(deployment)?.spec as { replicas?: number })
      ?.replicas;
  await waitFor(() => replicas() === 1);
  it.kube.remove(`${pools}/p`);
  await waitFor(() => replicas() === 0);
  ok(it.kube.get(`${pools}/p`), "it went before its pods");
  it.kube.remove(`${pods}/p-1`);
  await it.bus.removeWorker("decode", "w");
  await waitFor(() => !it.kube.get(`${pools}/p`), { timeoutMs: 5_000 });
  // What it owned goes with it.
  it.kube.remove(deployment);
  await waitFor(() => it.model()?.status?.reason === "NoPool");
  putPool(it.kube);
  await waitFor(() => replicas() === 1);
  await waitFor(() => it.model()?.status?.reason !== "NoPool");
});

test("an API server that refuses for a while is asked again until it takes the write", async () => {
  const it = world();
  putPool(it.kube);
  let refused = 0;
  it.kube.refuse = ({ method, path }) => {
    if (method !== "PATCH" || !path.includes("deployments")) return undefined;
    const codes = [409, 429, 500, 503];
    const code = codes[refused++];
    return code === undefined
      ? undefined
      : new KubeError({ code, message: `refusal ${code}` });
  };
  it.run();
  await waitFor(() => it.kube.get(deployment), { timeoutMs: 10_000 });
  equal(refused, 5);
});

/** What happens when parts of the cluster, or the controller itself, go away. */
import { equal, ok } from "node:assert/strict";
import { afterAll, beforeAll, test } from "vitest";
import { waitFor } from "../../lib/testing/mod.ts";
import {
  Informer,
  type KubeObject,
  resourceTypes,
} from "../../services/autoscaler/kube/mod.ts";
import type { ControllerProcess } from "./support/controller_process.ts";
import { install, type Installation } from "./support/installation.ts";
import {
  model,
  namespace,
  pool,
  type StatusObject,
} from "./support/test_cluster.ts";

let it: Installation;
/** Whoever leads now: tests end one and start another. */
let leader: ControllerProcess;

beforeAll(async () => {
  it = await install();
  leader = it.controller;
});
afterAll(async () => {
  await it?.[Symbol.asyncDispose]();
});

const replicasOf = (object: StatusObject) =>
  (object.spec as { replicas: number }).replicas;

test("routers learn of Models by the bucket, and forget those that go", async () => {
  const seen = new Map<string, unknown>();
  const stop = new AbortController();
  void (async () => {
    for await (const change of it.bus.watchModels(stop.signal)) {
      if (change.kind === "put") seen.set(change.entry.model, change.entry);
      else seen.delete(change.model);
    }
  })().catch(() => {
    // Stopped.
  });
  await it.bus.putModel({ model: "stray", source: { path: "/x.gguf" } });
  await it.kube.apply(
    pool("cpu", { scaling: { replicasMax: 2 } }),
    model("known", { aliases: ["also"], slo: { ttftMs: 2_000 } }),
  );
  const entry = await waitFor(() => seen.get("known"), { timeoutMs: 20_000 });
  equal(
    JSON.stringify(entry),
    JSON.stringify({
      model: "known",
      source: { path: "/models/known.gguf" },
      aliases: ["also"],
      ttftTargetMs: 2_000,
    }),
  );
  await waitFor(() => !seen.has("stray"), {
    timeoutMs: 20_000,
    what: "an entry without a Model to go",
  });
  // Lost by NATS or removed by somebody: written again.
  await it.bus.removeModel("known");
  await waitFor(() => seen.has("known"), { timeoutMs: 20_000 });
  await it.kube.remove("models", "known");
  await waitFor(() => !seen.has("known"), { timeoutMs: 20_000 });
  stop.abort();
});

test("an API server that restarts is waited out, and what changed meanwhile is taken up", async () => {
  const { controlPlane } = it.kube.cluster;
  await controlPlane.stop("apiServer", { signal: "SIGKILL" });
  // A wake that comes while nothing can be written.
  await waitFor(() => leader.log.includes("The watch broke off"), {
    timeoutMs: 30_000,
  });
  await controlPlane.start("apiServer");
  await it.kube.apply(pool("after", { scaling: { replicasMin: 1 } }));
  await it.until(
    "deployments",
    "after-workers",
    (object) => replicasOf(object) === 1,
    60_000,
  );
});

test(
  "a watch that expired is listed again, and nothing that happened meanwhile is missed",
  async () => {
    const { client, cluster: { controlPlane } } = it.kube;
    let gate = Promise.resolve();
    const notes: string[] = [];
    const seen = new Set<string>();
    const informer = new Informer<KubeObject>({
      // A client whose watches can be held back, so that history moves on without them.
      client: {
        call: (request) => client.call(request),
        async *lines(request) {
          await gate;
          yield* client.lines(request);
        },
        [Symbol.dispose]() {},
      },
      type: resourceTypes.configMap,
      namespace,
      random: Math.random,
      onChange: (name, object) =>
        void (object ? seen.add(name) : seen.delete(name)),
      onNote: ({ kind }) => void notes.push(kind),
    });
    const configMap = (name: string): KubeObject => ({
      apiVersion: "v1",
      kind: "ConfigMap",
      metadata: { name },
    });
    const stop = new AbortController();
    const running = informer.run(stop.signal);
    await informer.synced;
    await it.kube.apply(configMap("early"));
    await waitFor(() => seen.has("early"), { timeoutMs: 20_000 });
    const { promise, resolve: open } = Promise.withResolvers<void>();
    gate = promise;
    await controlPlane.stop("apiServer", { signal: "SIGKILL" });
    await controlPlane.start("apiServer");
    await it.kube.apply(configMap("meanwhile"));
    await it.kube.remove("configmaps", "early");
    // The server's memory of changes begins anew, after all of this.
    await controlPlane.stop("apiServer");
    await controlPlane.start("apiServer");
    open();
    await waitFor(() => seen.has("meanwhile") && !seen.has("early"), {
      timeoutMs: 60_000,
    });
    ok(notes.includes("expired"), `no watch expired: ${notes}`);
    stop.abort();
    await running;
  },
  180_000,
);

test(
  "a leader that dies is followed within 20 seconds, and its successor shrinks nothing",
  async () => {
    await it.kube.apply(
      pool("steady", { scaling: { replicasMax: 2, idleSeconds: 120 } }),
      model("theta", { pool: "steady", scaling: { idleSeconds: 120 } }),
    );
    it.router.hold("theta", 1);
    await it.until(
      "models",
      "theta",
      ({ status }) => status?.state === "Running",
      60_000,
    );
    it.router.hold("theta", 0);
    const standby = await it.startAnother({ name: "autoscaler-b" });
    await waitFor(() => standby.log.includes('"waiting"'), {
      timeoutMs: 20_000,
      what: "the standby to wait",
    });
    equal((await standby.metrics()).get("quetzal:controller_leading"), 0);
    const diedMs = performance.now();
    await leader.kill("SIGKILL");
    await it.kube.apply(pool("heir", { scaling: { replicasMin: 1 } }));
    await it.until(
      "deployments",
      "heir-workers",
      (object) => replicasOf(object) === 1,
      60_000,
    );
    const tookMs = performance.now() - diedMs;
    console.log(
      `a dead leader's work went on after ${(tookMs / 1_000).toFixed(1)} s`,
    );
    ok(tookMs <= 20_000, `it took ${tookMs} ms`);
    equal(
      replicasOf(
        (await it.kube.get<StatusObject>("deployments", "steady-workers"))!,
      ),
      1,
    );
    await standby.leads();

    // One that is told to stop gives the lease back, so the next one leads at once.
    const third = await it.startAnother({ name: "autoscaler-c" });
    await waitFor(() => third.log.includes('"waiting"'), { timeoutMs: 20_000 });
    const stoppedMs = performance.now();
    await standby.kill("SIGTERM");
    equal(standby.exitCode, 0);
    await third.leads();
    console.log(
      `a leader that stops is followed after ${
        ((performance.now() - stoppedMs) / 1_000).toFixed(1)
      } s`,
    );
    ok(
      performance.now() - stoppedMs < 12_000,
      "it waited for the lease to end",
    );
    leader = third;
  },
  240_000,
);

test(
  "a leader that was stopped for longer than its lease overwrites nothing when it goes on",
  async () => {
    await it.kube.apply(
      pool("thaw", { scaling: { replicasMin: 2, replicasMax: 5 } }),
    );
    const deployment = (probe: (object: StatusObject) => unknown) =>
      it.until("deployments", "thaw-workers", probe, 60_000);
    await deployment((object) => replicasOf(object) === 2);
    const standby = await it.startAnother({ name: "autoscaler-d" });
    await waitFor(() => standby.log.includes('"waiting"'), {
      timeoutMs: 20_000,
    });
    process.kill(leader.pid, "SIGSTOP");
    await standby.leads();
    await it.kube.cluster.kubectl([
      ...["scale", "-n", namespace, "workerpool/thaw", "--replicas=3"],
    ]);
    const { metadata } = await deployment((object) => replicasOf(object) === 3);
    // It wakes up with the old number in mind, and news of the new one in its socket.
    process.kill(leader.pid, "SIGCONT");
    await waitFor(() => leader.log.includes('"kind":"lost"'), {
      timeoutMs: 20_000,
      what: "the old leader to notice",
    });
    const after = await deployment((object) => replicasOf(object) === 3);
    equal(after.metadata.generation, metadata.generation);
    await leader.kill("SIGKILL");
    leader = standby;
  },
  120_000,
);

test(
  "a leader that cannot renew its lease stops acting before another one may, and comes back",
  async () => {
    const leading = async () =>
      (await leader.metrics()).get("quetzal:controller_leading");
    equal(await leading(), 1);
    const { controlPlane } = it.kube.cluster;
    await controlPlane.stop("apiServer", { signal: "SIGKILL" });
    const downMs = performance.now();
    await waitFor(async () => await leading() === 0, {
      timeoutMs: 30_000,
      what: "the leader to give up",
    });
    ok(performance.now() - downMs < 12_000, "it led longer than its lease");
    await controlPlane.start("apiServer");
    await waitFor(async () => await leading() === 1, {
      timeoutMs: 60_000,
      what: "it to lead again",
    });
    await it.kube.apply(pool("again", { scaling: { replicasMin: 1 } }));
    await it.until(
      "deployments",
      "again-workers",
      (object) => replicasOf(object) === 1,
      60_000,
    );
  },
  180_000,
);

/** What the controller makes of Models and pools on a real API server. */
import { equal, ok } from "node:assert/strict";
import { afterAll, beforeAll, expect, test } from "vitest";
import { waitFor } from "../../lib/testing/mod.ts";
import type { KubeObject } from "../../services/autoscaler/kube/mod.ts";
import { install, type Installation } from "./support/installation.ts";
import {
  clientOf,
  conditionOf,
  model,
  namespace,
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

const kinds = [
  "deployments",
  "services",
  "configmaps",
  "poddisruptionbudgets",
];

test("a pool becomes a Deployment, a Service, a ConfigMap and a disruption budget that it owns", async () => {
  await it.kube.apply(pool("full", {
    hardware: { accelerator: "nvidia.com/gpu", count: 2 },
    resources: { requests: { cpu: "2" }, limits: { memory: "4Gi" } },
    storage: {
      models: { claimName: "weights" },
      cache: { hostPath: "/var/q" },
    },
    runtime: { threads: 3, modelMemory: "3Gi", env: { EXTRA: "1" } },
    nodeSelector: { accelerator: "h100" },
    tolerations: [{ key: "gpu", operator: "Exists" }],
    drainSeconds: 45,
    disruption: { maxUnavailable: "25%" },
  }));
  await it.until(
    "workerpools",
    "full",
    ({ status }) => status?.observedGeneration === 1,
  );
  for (const kind of kinds) {
    const object = await it.kube.get(kind, "full-workers");
    expect(object?.metadata.ownerReferences, kind).toMatchObject([{
      kind: "WorkerPool",
      name: "full",
      controller: true,
    }]);
  }
  const { spec } = (await it.kube.get("deployments", "full-workers"))!;
  expect(spec).toMatchObject({
    replicas: 0,
    template: {
      spec: {
        nodeSelector: { accelerator: "h100" },
        tolerations: [{ key: "gpu", operator: "Exists" }],
        terminationGracePeriodSeconds: 60,
        automountServiceAccountToken: false,
        containers: [{
          args: ["services/decode/main.ts"],
          resources: {
            requests: { cpu: "2", "nvidia.com/gpu": "2" },
            limits: { memory: "4Gi", "nvidia.com/gpu": "2" },
          },
          securityContext: { readOnlyRootFilesystem: true },
        }],
      },
    },
  });
  const settings = await it.kube.get("configmaps", "full-workers");
  expect(settings?.data).toMatchObject({
    QUETZAL_THREADS: "3",
    QUETZAL_MODEL_MEMORY_BYTES: `${3 * 2 ** 30}`,
    QUETZAL_DRAIN_TIMEOUT: "45s",
    EXTRA: "1",
  });
});

test("changed settings reach the pods by a new template", async () => {
  await it.kube.apply(pool("settings"));
  const before = await it.until("deployments", "settings-workers", () => true);
  await it.kube.apply(pool("settings", { runtime: { threads: 2 } }));
  await it.until(
    "deployments",
    "settings-workers",
    ({ spec }) =>
      JSON.stringify((spec as { template: unknown }).template) !==
        JSON.stringify((before.spec as { template: unknown }).template),
  );
});

test("what somebody deletes or changes of a pool's objects comes back", async () => {
  await it.kube.apply(pool("healed"));
  await it.until("services", "healed-workers", () => true);
  await it.kube.remove("services", "healed-workers");
  await it.until(
    "services",
    "healed-workers",
    ({ metadata }) => metadata.deletionTimestamp === undefined,
  );
  await it.kube.cluster.kubectl([
    "patch",
    "-n",
    namespace,
    "configmap/healed-workers",
    "--type=merge",
    '-p={"data":{"QUETZAL_LOG_LEVEL":null}}',
  ]);
  await it.until(
    "configmaps",
    "healed-workers",
    ({ data }) => (data as Record<string, string>).QUETZAL_LOG_LEVEL === "info",
  );
});

test("what a user adds to a pool's objects stays, and a field they take over is reported", async () => {
  await it.kube.apply(pool("shared"));
  await it.until("deployments", "shared-workers", () => true);
  const byHand: KubeObject = {
    apiVersion: "apps/v1",
    kind: "Deployment",
    metadata: {
      name: "shared-workers",
      namespace,
      annotations: { "team.example/owner": "night shift" },
    },
    spec: { revisionHistoryLimit: 7 },
  };
  await it.kube.cluster.kubectl([
    "apply",
    "--server-side",
    "--force-conflicts",
    // Only two fields: what a manager applies need not be a whole object.
    "--validate=false",
    "--field-manager=night-shift",
    "-f",
    "-",
  ], { input: JSON.stringify(byHand) });
  const reported = await it.until(
    "workerpools",
    "shared",
    (object) => conditionOf(object, "Applied")?.reason === "FieldConflict",
  );
  expect(conditionOf(reported, "Applied")?.message).toMatch(
    /\.spec\.revisionHistoryLimit \(night-shift\)/,
  );
  // It stays theirs through further reconciles, and ours go on to be applied.
  await it.kube.apply(pool("shared", { replicas: 1 }));
  const after = await it.until(
    "deployments",
    "shared-workers",
    ({ spec }) => (spec as { replicas: number }).replicas === 1,
  );
  expect(after.spec).toMatchObject({ revisionHistoryLimit: 7 });
  equal(after.metadata.annotations?.["team.example/owner"], "night shift");
});

test("an invalid spec is a condition with field, expectation and finding, and no workload", async () => {
  await it.kube.apply(
    pool("crossed", { scaling: { replicasMin: 5, replicasMax: 2 } }),
    model("lost", { pool: "nowhere" }),
    model("nameless", { source: { url: "https://models.example/a.gguf" } }),
  );
  const crossed = await it.until(
    "workerpools",
    "crossed",
    (object) => conditionOf(object, "Ready")?.reason === "InvalidSpec",
  );
  equal(
    conditionOf(crossed, "Ready")?.message,
    "spec.scaling.replicasMax: expected at least replicasMin, which is 5, found 2",
  );
  equal(await it.kube.get("deployments", "crossed-workers"), undefined);
  await it.until(
    "models",
    "lost",
    (object) => conditionOf(object, "Ready")?.reason === "NoPool",
  );
  const nameless = await it.until(
    "models",
    "nameless",
    (object) => conditionOf(object, "Ready")?.reason === "InvalidSpec",
  );
  equal(nameless.status?.state, "Invalid");
  expect(conditionOf(nameless, "Ready")?.message).toMatch(
    /^spec\.source\.sha256: expected/,
  );
  // Corrected, it is taken.
  await it.kube.apply(
    model("nameless", { source: { path: "/models/a.gguf" } }),
  );
  await it.until(
    "models",
    "nameless",
    ({ status }) => status?.state !== "Invalid",
  );
});

test("an alias belongs to the older Model, and goes to the younger when that is deleted", async () => {
  await it.kube.apply(
    pool("names"),
    model("elder", { pool: "names", aliases: ["chat"] }),
  );
  await it.until("models", "elder", ({ status }) => status?.state === "Absent");
  await new Promise((resolve) => setTimeout(resolve, 1_100));
  await it.kube.apply(model("younger", { pool: "names", aliases: ["chat"] }));
  const refused = await it.until(
    "models",
    "younger",
    ({ status }) => status?.state === "Invalid",
  );
  expect(conditionOf(refused, "Ready")?.message).toMatch(
    /belongs to the Model "elder"/,
  );
  await it.kube.remove("models", "elder");
  await it.until(
    "models",
    "younger",
    ({ status }) => status?.state !== "Invalid",
  );
});

test("events tell a pool's story, and repetitions are one event", async () => {
  const events = await it.kube.client.call<{ items: KubeObject[] }>({
    path: `/api/v1/namespaces/${namespace}/events`,
    query: { fieldSelector: "involvedObject.name=crossed" },
  });
  equal(
    events.items.filter(({ reason }) => reason === "InvalidSpec").length,
    1,
  );
});

test("a deleted Model leaves its workers before it is gone, and waits for what runs", async () => {
  await it.kube.apply(
    pool("drain", { scaling: { replicasMin: 1 } }),
    model("leaving", {
      pool: "drain",
      scaling: { replicasMin: 1 },
      drainSeconds: 30,
    }),
  );
  await it.until(
    "models",
    "leaving",
    ({ status }) => status?.state === "Running",
  );
  const [worker] = [...it.node.workers.values()]
    .filter(({ podName }) => podName.startsWith("drain-"));
  await worker.setRunning("leaving", 1);
  await it.kube.remove("models", "leaving");
  await it.until(
    "models",
    "leaving",
    ({ status }) => status?.state === "Deleting",
  );
  await waitFor(() => worker.calls.includes("unload leaving"), {
    timeoutMs: 10_000,
  });
  ok(await it.kube.get("models", "leaving"), "gone while a request runs");
  await worker.setRunning("leaving", 0);
  await it.gone("models", "leaving");
  equal(worker.models.size, 0);
});

test("a deleted pool ends its pods first, and all it owned is collected", async () => {
  await it.kube.apply(
    pool("going", { scaling: { replicasMin: 2, replicasMax: 2 } }),
  );
  await it.until(
    "workerpools",
    "going",
    ({ status }) => status?.ready === "2/2",
  );
  await it.kube.remove("workerpools", "going");
  await it.gone("workerpools", "going", 30_000);
  const left = [...it.node.workers.values()]
    .filter(({ podName }) => podName.startsWith("going-"));
  equal(left.length, 0, "the pool was gone before its workers");
  for (const kind of kinds) await it.gone(kind, "going-workers", 40_000);
});

test("a changed source is loaded anew", async () => {
  await it.kube.apply(
    pool("swap", { scaling: { replicasMin: 1 } }),
    model("moving", { pool: "swap", scaling: { replicasMin: 1 } }),
  );
  await it.until(
    "models",
    "moving",
    ({ status }) => status?.state === "Running",
  );
  const [worker] = [...it.node.workers.values()]
    .filter(({ podName }) => podName.startsWith("swap-"));
  await it.kube.apply(model("moving", {
    pool: "swap",
    scaling: { replicasMin: 1 },
    source: { path: "/models/better.gguf" },
  }));
  await waitFor(
    () => worker.calls.join() === "load moving,unload moving,load moving",
    { timeoutMs: 20_000, what: "the model to be loaded anew" },
  );
});

test("the controller's account can do its work and nothing else", async () => {
  const own = await clientOf(it.kube.controllerKubeconfig);
  const may = async (
    verb: string,
    group: string,
    resource: string,
    rest = {},
  ) => {
    const answer = await own.call<{ status: { allowed: boolean } }>({
      method: "POST",
      path: "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
      body: {
        apiVersion: "authorization.k8s.io/v1",
        kind: "SelfSubjectAccessReview",
        spec: {
          resourceAttributes: { namespace, verb, group, resource, ...rest },
        },
      },
    });
    return answer.status.allowed;
  };
  const forbidden: [string, string, string, object?][] = [
    ["get", "", "secrets"],
    ["list", "", "secrets"],
    ["delete", "", "pods"],
    ["create", "", "pods"],
    ["create", "", "pods", { subresource: "exec" }],
    ["delete", "apps", "deployments"],
    ["create", "quetzal.dev", "models"],
    ["delete", "quetzal.dev", "models"],
    ["update", "quetzal.dev", "models"],
    ["create", "rbac.authorization.k8s.io", "roles"],
    ["create", "rbac.authorization.k8s.io", "rolebindings"],
    ["create", "", "serviceaccounts", { subresource: "token" }],
    ["list", "", "nodes", { namespace: "" }],
    ["list", "", "pods", { namespace: "kube-system" }],
    ["list", "apps", "deployments", { namespace: "" }],
    ["get", "coordination.k8s.io", "leases", { name: "somebody-elses" }],
    ["update", "coordination.k8s.io", "leases", { name: "somebody-elses" }],
    ["delete", "coordination.k8s.io", "leases"],
  ];
  for (const [verb, group, resource, rest] of forbidden) {
    equal(
      await may(verb, group, resource, rest),
      false,
      `it may ${verb} ${resource} ${JSON.stringify(rest ?? {})}`,
    );
  }
  equal(await may("patch", "apps", "deployments"), true);
  // All tests above ran with these permissions: nothing was refused.
  expect(it.controller.log).not.toMatch(/is forbidden/);
  own[Symbol.dispose]();
});

test("at rest the controller writes nothing", async () => {
  const written = async () => {
    let sum = 0;
    for (const [name, value] of await it.controller.metrics()) {
      if (name.startsWith("quetzal:controller_writes_total")) sum += value;
    }
    return sum;
  };
  await waitFor(async () => {
    const before = await written();
    await new Promise((resolve) => setTimeout(resolve, 3_000));
    return await written() === before;
  }, { timeoutMs: 60_000, what: "the controller to come to rest" });
  const before = await written();
  const versions = async () => {
    const list = await it.kube.client.call<{ items: StatusObject[] }>({
      path: `/apis/quetzal.dev/v1alpha1/namespaces/${namespace}/workerpools`,
    });
    return list.items.map(({ metadata }) => metadata.resourceVersion).join();
  };
  const versionsBefore = await versions();
  await new Promise((resolve) => setTimeout(resolve, 15_000));
  equal(await written(), before);
  equal(await versions(), versionsBefore);
});

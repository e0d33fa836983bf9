import { deepEqual, equal, match, ok } from "node:assert/strict";
import { expect, test } from "vitest";
import {
  faultText,
  modelSpec,
  parse,
  type WorkerPoolSpec,
  workerPoolSpec,
} from "../crds/mod.ts";
import { stableJson } from "../kube/mod.ts";
import {
  checkModel,
  checkWorkerPool,
  type ModelSurroundings,
} from "./check_spec.ts";
import { planPoolWorkload, type PoolWorkload } from "./plan_pool_workload.ts";

function specOf(changes: Record<string, unknown> = {}): WorkerPoolSpec {
  const parsed = parse(workerPoolSpec, changes, "spec");
  ok(parsed.kind === "valid");
  return parsed.value;
}

function workload(
  changes: Record<string, unknown> = {},
  rest: Partial<PoolWorkload> = {},
) {
  const objects = planPoolWorkload({
    name: "cpu",
    namespace: "ns",
    uid: "u-1",
    spec: specOf(changes),
    replicas: 2,
    defaults: {
      image: "quetzal/mesh",
      natsUrl: "nats://nats:4222",
      natsSecret: undefined,
      otlpEndpoint: undefined,
    },
    disruptionApi: "policy/v1",
    ...rest,
  });
  // deno-lint-ignore no-explicit-any
  const of = (kind: string): any =>
    objects.find(({ desired }) => desired.kind === kind)!.desired;
  return {
    objects,
    deployment: of("Deployment"),
    settings: of("ConfigMap"),
    budget: of("PodDisruptionBudget"),
    service: of("Service"),
  };
}

test("equal pools give equal objects", () => {
  equal(stableJson(workload().objects), stableJson(workload().objects));
});

test("every object is owned by its pool and labelled as ours", () => {
  for (const { desired } of workload().objects) {
    deepEqual(desired.metadata.ownerReferences, [{
      apiVersion: "quetzal.dev/v1alpha1",
      kind: "WorkerPool",
      name: "cpu",
      uid: "u-1",
      controller: true,
      blockOwnerDeletion: true,
    }]);
    equal(
      desired.metadata.labels?.["app.kubernetes.io/managed-by"],
      "quetzal-autoscaler",
    );
  }
});

test("Service, budget and spread select exactly the pods of the pool", () => {
  const { deployment, service, budget } = workload({
    podLabels: { "quetzal.dev/pool": "other" },
  });
  const { labels } = deployment.spec.template.metadata;
  equal(labels["quetzal.dev/pool"], "cpu");
  for (
    const selector of [
      deployment.spec.selector.matchLabels,
      service.spec.selector,
      budget.spec.selector.matchLabels,
      deployment.spec.template.spec.topologySpreadConstraints[0].labelSelector
        .matchLabels,
    ]
  ) deepEqual(selector, { "quetzal.dev/pool": "cpu" });
});

test("pods may do nothing that a worker does not need", () => {
  const { spec } = workload().deployment.spec.template;
  equal(spec.automountServiceAccountToken, false);
  equal(spec.enableServiceLinks, false);
  expect(spec.securityContext).toMatchObject({
    runAsNonRoot: true,
    seccompProfile: { type: "RuntimeDefault" },
  });
  deepEqual(spec.containers[0].securityContext, {
    allowPrivilegeEscalation: false,
    readOnlyRootFilesystem: true,
    capabilities: { drop: ["ALL"] },
  });
});

test("a pod has longer to stop than its worker to drain", () => {
  const { deployment, settings } = workload({ drainSeconds: 100 });
  equal(settings.data.QUETZAL_DRAIN_TIMEOUT, "100s");
  ok(deployment.spec.template.spec.terminationGracePeriodSeconds > 100);
});

test("changed settings change the pod template, changed replicas do not", () => {
  const hash = (changes: Record<string, unknown>, rest = {}) =>
    workload(changes, rest).deployment.spec.template.metadata
      .annotations["quetzal.dev/settings-hash"];
  equal(hash({}), hash({}, { replicas: 9 }));
  ok(hash({}) !== hash({ runtime: { kvBlocks: 7 } }));
});

test("a device is request and limit, and quantities are text", () => {
  const { containers } = workload({
    hardware: { accelerator: "nvidia.com/gpu", count: 2 },
    resources: { requests: { cpu: 3 }, limits: { memory: "8Gi" } },
  }).deployment.spec.template.spec;
  deepEqual(containers[0].resources, {
    requests: { cpu: "3", "nvidia.com/gpu": "2" },
    limits: { memory: "8Gi", "nvidia.com/gpu": "2" },
  });
});

const volumes = [
  [{}, { emptyDir: {} }],
  [{ cache: { sizeLimit: "5Gi" } }, { emptyDir: { sizeLimit: "5Gi" } }],
  [{ cache: { claimName: "c" } }, {
    persistentVolumeClaim: { claimName: "c" },
  }],
  [
    { cache: { hostPath: "/var/q" } },
    { hostPath: { path: "/var/q", type: "DirectoryOrCreate" } },
  ],
] as const;

for (const [storage, want] of volumes) {
  test(`the cache of ${JSON.stringify(storage)} is ${JSON.stringify(want)}`, () => {
    const { volumes } = workload({ storage }).deployment.spec.template.spec;
    deepEqual(volumes.find(({ name }: { name: string }) => name === "cache"), {
      name: "cache",
      ...want,
    });
  });
}

test("models are mounted read-only, and only where there is a volume of them", () => {
  const mounts = (changes: Record<string, unknown>) =>
    workload(changes).deployment.spec.template.spec.containers[0].volumeMounts
      .filter(({ name }: { name: string }) => name === "models");
  deepEqual(mounts({}), []);
  deepEqual(mounts({ storage: { models: { claimName: "m" } } }), [
    { name: "models", mountPath: "/models", readOnly: true },
  ]);
});

test("the NATS URL comes from a Secret where one is named, and from nowhere else", () => {
  const { deployment, settings } = workload({}, {
    defaults: {
      image: "i",
      natsUrl: "nats://u:p@nats:4222",
      natsSecret: "nats-url",
      otlpEndpoint: undefined,
    },
  });
  equal(settings.data.QUETZAL_NATS_URL, undefined);
  ok(!JSON.stringify(deployment).includes("u:p@"));
  const { env } = deployment.spec.template.spec.containers[0];
  deepEqual(
    env.find(({ name }: { name: string }) => name === "QUETZAL_NATS_URL"),
    {
      name: "QUETZAL_NATS_URL",
      valueFrom: { secretKeyRef: { name: "nats-url", key: "url" } },
    },
  );
});

test("the disruption budget speaks the version that the server has", () => {
  equal(
    workload({}, { disruptionApi: "policy/v1beta1" }).budget.apiVersion,
    "policy/v1beta1",
  );
});

const poolFaults: [string, string, Record<string, unknown>, RegExp][] = [
  [
    "a name that no Service can have",
    "9lives",
    {},
    /^metadata\.name: expected up to 40/,
  ],
  [
    "crossed bounds",
    "p",
    { scaling: { replicasMin: 3, replicasMax: 1 } },
    /^spec\.scaling\.replicasMax/,
  ],
  ["two sources of one volume", "p", {
    storage: { cache: { claimName: "a", hostPath: "/b" } },
  }, /^spec\.storage\.cache: expected at most one/],
  ["a request above its limit", "p", {
    resources: { requests: { memory: "3Gi" }, limits: { memory: "2Gi" } },
  }, /^spec\.resources\.requests\.memory: expected at most the limit/],
  ["a setting of the controller's own", "p", {
    runtime: { env: { QUETZAL_NATS_URL: "x" } },
  }, /^spec\.runtime\.env\.QUETZAL_NATS_URL/],
  ["a rollout that can replace nothing", "p", {
    rollout: { maxSurge: "0%", maxUnavailable: 0 },
  }, /^spec\.rollout: expected maxSurge or/],
];

for (const [label, name, changes, says] of poolFaults) {
  test(`checkWorkerPool() refuses ${label}`, () => {
    const faults = checkWorkerPool(name, specOf(changes)).map(faultText);
    equal(faults.length, 1, faults.join());
    match(faults[0], says);
  });
}

test("checkWorkerPool() takes the defaults", () => {
  deepEqual(checkWorkerPool("cpu", specOf()), []);
});

function check(
  changes: Record<string, unknown>,
  around: Partial<ModelSurroundings> = {},
): string[] {
  const parsed = parse(modelSpec, {
    source: { path: "/a.gguf" },
    pool: "p",
    ...changes,
  }, "spec");
  ok(parsed.kind === "valid");
  return checkModel(parsed.value, {
    name: "m",
    createdMs: 100,
    pool: { role: "decode", sharing: "shared" },
    prefillPool: undefined,
    others: () => [],
    ...around,
  }).map(faultText);
}

const other = { name: "n", createdMs: 50, aliases: ["chat"], pool: "p" };
const sha256 = "a".repeat(64);

const modelFaults: [
  string,
  Record<string, unknown>,
  Partial<ModelSurroundings>,
  RegExp,
][] = [
  [
    "both path and url",
    { source: { path: "/a", url: "https://h/a", sha256 } },
    {},
    /^spec\.source: expected exactly one of path and url, found both/,
  ],
  [
    "a url without checksum",
    { source: { url: "https://h/a" } },
    {},
    /^spec\.source\.sha256/,
  ],
  [
    "a url with a password",
    { source: { url: "https://u:p@h/a", sha256 } },
    {},
    /^spec\.source\.url: .*without user and password/,
  ],
  ["a pool of the wrong role", {}, {
    pool: { role: "prefill", sharing: "shared" },
  }, /^spec\.pool: expected a WorkerPool with role decode/],
  ["itself as draft", { draft: { model: "m" } }, {}, /^spec\.draft\.model/],
  ["an alias of an older Model", { aliases: ["chat"] }, {
    others: () => [other],
  }, /"chat", which belongs to the Model "n"/],
  ["another Model's name as alias, however young that is", { aliases: ["n"] }, {
    others: () => [{ ...other, createdMs: 900 }],
  }, /which belongs to the Model "n"/],
  ["a pool that is dedicated to an older Model", {}, {
    pool: { role: "decode", sharing: "dedicated" },
    others: () => [other],
  }, /dedicated to "n"/],
  [
    "a setting that its policy does not have",
    { scaling: { settings: { nope: 1 } } },
    {},
    /^spec\.scaling\.settings\.nope/,
  ],
];

for (const [label, changes, around, says] of modelFaults) {
  test(`checkModel() refuses ${label}`, () => {
    const faults = check(changes, around);
    equal(faults.length, 1, faults.join());
    match(faults[0], says);
  });
}

test("checkModel() never shows a password that a URL holds", () => {
  ok(
    !check({ source: { url: "https://u:hunter2@h/a", sha256 } }).join()
      .includes("hunter2"),
  );
});

test("checkModel() leaves an alias to the older of two", () => {
  deepEqual(
    check({ aliases: ["chat"] }, {
      others: () => [{ ...other, createdMs: 900 }],
    }),
    [],
  );
});

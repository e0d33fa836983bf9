/** What an API server makes of our CRDs. */
import { equal, ok } from "node:assert/strict";
import { afterAll, beforeAll, expect, test } from "vitest";
import {
  modelSpec,
  parse,
  workerPoolSpec,
} from "../../services/autoscaler/crds/mod.ts";
import {
  model,
  pool,
  startTestCluster,
  type TestCluster,
} from "./support/test_cluster.ts";

let kube: TestCluster;

beforeAll(async () => {
  kube = await startTestCluster();
});
afterAll(async () => {
  await kube?.[Symbol.asyncDispose]();
});

test("the server fills the defaults that the controller would fill", async () => {
  await kube.apply(pool("cpu"), model("plain"));
  const [storedPool, storedModel] = [
    await kube.get("workerpools", "cpu"),
    await kube.get("models", "plain"),
  ];
  const own = parse(workerPoolSpec, {}, "spec");
  ok(own.kind === "valid");
  expect(storedPool?.spec).toEqual(own.value);
  const ownModel = parse(modelSpec, model("plain").spec, "spec");
  ok(ownModel.kind === "valid");
  expect(storedModel?.spec).toEqual(ownModel.value);
});

const refused = [
  {
    label: "an unknown policy",
    object: model("bad", { scaling: { policy: "magic" } }),
    says: /spec\.scaling\.policy/,
  },
  {
    label: "a missing source",
    object: model("bad", { source: undefined }),
    says: /source/,
  },
  {
    label: "a checksum that is none",
    object: model("bad", { source: { url: "https://a/b", sha256: "abc" } }),
    says: /spec\.source\.sha256/,
  },
  {
    label: "a negative count",
    object: pool("bad", { scaling: { replicasMin: -1 } }),
    says: /spec\.scaling\.replicasMin/,
  },
  {
    label: "an unknown role",
    object: pool("bad", { role: "router" }),
    says: /spec\.role/,
  },
  {
    label: "a quantity that is none",
    object: pool("bad", { resources: { limits: { memory: "much" } } }),
    says: /memory/,
  },
  {
    label: "a job with a format that the quantizer does not know",
    object: {
      apiVersion: "quetzal.dev/v1alpha1",
      kind: "QuantizationJob",
      metadata: { name: "bad" },
      spec: {
        source: { path: "/a" },
        format: "q1",
        output: { path: "/b.gguf" },
      },
    },
    says: /spec\.format/,
  },
];

for (const { label, object, says } of refused) {
  test(`the server refuses ${label} and names the field`, async () => {
    await expect(kube.apply(object)).rejects.toThrow(says);
  });
}

test("quantities may be written as numbers", async () => {
  await kube.apply(pool("number", { resources: { requests: { cpu: 2 } } }));
  const stored = await kube.get("workerpools", "number");
  expect(stored?.spec).toMatchObject({ resources: { requests: { cpu: 2 } } });
});

test("a status is written by its subresource only", async () => {
  await kube.apply({ ...model("honest"), status: { state: "Running" } });
  const stored = await kube.get("models", "honest");
  equal(stored?.status, undefined);
});

test("kubectl shows columns, short names and the category", async () => {
  const { kubectl } = kube.cluster;
  const models = await kubectl(["get", "-n", "quetzal", "mdl"]);
  for (
    const column of [
      "STATE",
      "READY",
      "POOL",
      "REASON",
      "COLD-START",
      "LAST-WAKE",
      "AGE",
    ]
  ) {
    ok(models.includes(column), `${column} is missing: ${models}`);
  }
  const pools = await kubectl(["get", "-n", "quetzal", "wp"]);
  ok(/ROLE .*READY .*JOINED .*MODELS/.test(pools), pools);
  const all = await kubectl(["get", "-n", "quetzal", "quetzal"]);
  ok(
    all.includes("model.quetzal.dev/plain") &&
      all.includes("workerpool.quetzal.dev/cpu"),
  );
});

test("kubectl explain says what a field holds", async () => {
  const text = await kube.cluster.kubectl([
    "explain",
    "model.spec.scaling.idleSeconds",
  ]);
  ok(
    /stays loaded after its last request/.test(text.replace(/\s+/g, " ")),
    text,
  );
});

test("the scale subresource reads and sets spec.replicas", async () => {
  await kube.apply(pool("scaled", { replicas: 1 }));
  await kube.cluster.kubectl([
    "scale",
    "-n",
    "quetzal",
    "workerpool/scaled",
    "--replicas=3",
  ]);
  const stored = await kube.get("workerpools", "scaled");
  expect(stored?.spec).toMatchObject({ replicas: 3 });
});

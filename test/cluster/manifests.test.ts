import { deepEqual, equal, match, ok } from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, test } from "vitest";
import { parse } from "yaml";
import { images } from "../../infra/images/mod.ts";
import { mayConnect, type Pod, selects } from "./manifests/reachability.ts";
import {
  k8sFolder,
  type Manifest,
  options,
  overlays,
  render,
  type Workload,
  workloadsIn,
} from "./manifests/render.ts";

describe.each([...overlays, ...options])("%s", (folder) => {
  let manifests: Manifest[] = [];
  let workloads: Workload[] = [];

  beforeAll(() => {
    manifests = render(folder);
    workloads = workloadsIn(manifests);
  });

  const ofKind = (kind: string) =>
    manifests.filter((manifest) => manifest.kind === kind);

  test("renders something, all of it labelled and in one namespace", () => {
    ok(manifests.length > 0);
    const clusterWide = [
      "Namespace",
      "CustomResourceDefinition",
      "ClusterRole",
      "ClusterRoleBinding",
    ];
    for (const { kind, metadata } of manifests) {
      const what = `${kind} ${metadata.name}`;
      if (clusterWide.includes(kind)) continue;
      equal(metadata.namespace, "quetzal", what);
      if (kind === "ConfigMap") continue;
      equal(metadata.labels?.["app.kubernetes.io/part-of"], "quetzal", what);
    }
  });

  test("pods run as nobody, under the runtime's seccomp profile", () => {
    for (const { name, pod } of workloads) {
      equal(pod.securityContext.runAsNonRoot, true, name);
      ok(pod.securityContext.runAsUser > 0, name);
      equal(pod.securityContext.seccompProfile.type, "RuntimeDefault", name);
      ok(!pod.hostNetwork && !pod.hostPID && !pod.hostIPC, name);
      for (const volume of pod.volumes ?? []) ok(!volume.hostPath, name);
    }
  });

  test("pods see no variables of Services, which look like our settings", () => {
    for (const { name, pod } of workloads) {
      equal(pod.enableServiceLinks, false, name);
    }
  });

  test("containers cannot change their image, gain rights, or take a machine's memory", () => {
    for (const { name, pod } of workloads) {
      for (const container of pod.containers) {
        const what = `${name}/${container.name}`;
        deepEqual(container.securityContext, {
          allowPrivilegeEscalation: false,
          readOnlyRootFilesystem: true,
          capabilities: { drop: ["ALL"] },
        }, what);
        ok(container.resources.requests.cpu, what);
        ok(container.resources.requests.memory, what);
        ok(container.resources.limits.memory, what);
      }
    }
  });

  test("what runs for good has probes, on ports that it has", () => {
    for (const { name, kind, pod } of workloads) {
      if (kind === "Job") continue;
      for (const container of pod.containers) {
        const ports = container.ports.map((port: { name: string }) =>
          port.name
        );
        for (const probe of ["readinessProbe", "livenessProbe"]) {
          const what = `${name}/${container.name} ${probe}`;
          ok(ports.includes(container[probe]?.httpGet?.port), what);
        }
      }
    }
  });

  test("only pods that may do something get a token", () => {
    const bound = manifests
      .filter(({ kind }) => /^(Cluster)?RoleBinding$/.test(kind))
      .flatMap(({ subjects }) =>
        subjects.map((subject: { name: string }) => subject.name)
      );
    const accounts = ofKind("ServiceAccount")
      .map(({ metadata }) => metadata.name);
    for (const { name, pod } of workloads) {
      const account = pod.serviceAccountName;
      if (account !== undefined) ok(accounts.includes(account), name);
      const token = pod.automountServiceAccountToken !== false;
      equal(token, account !== undefined && bound.includes(account), name);
    }
  });

  test("no role allows everything or reads Secrets", () => {
    for (const kind of ["Role", "ClusterRole"]) {
      for (const { metadata, rules } of ofKind(kind)) {
        for (const { apiGroups, resources, verbs } of rules) {
          const all = [apiGroups, resources, verbs].flat();
          ok(!all.includes("*"), `${metadata.name} has *`);
          ok(!resources.includes("secrets"), `${metadata.name} has secrets`);
        }
      }
    }
  });

  test("roles name resources as they are called, without a ConfigMap's hash", () => {
    const names = ["Role", "ClusterRole"].flatMap(ofKind)
      .flatMap(({ rules }) => rules)
      .flatMap(({ resourceNames = [] }) => resourceNames as string[]);
    for (const name of names) ok(!/-[2456789bcdfghkmt]{10}$/.test(name), name);
  });

  test("every Service finds pods, and the ports it names", () => {
    for (const { metadata, spec } of ofKind("Service")) {
      const behind = workloads.filter(({ labels }) =>
        selects({ matchLabels: spec.selector }, labels)
      );
      ok(behind.length > 0, `${metadata.name} finds nobody`);
      for (const { pod } of behind) {
        const names = pod.containers.flatMap((
          { ports = [] }: { ports?: { name: string }[] },
        ) => ports.map(({ name }) => name));
        for (const { targetPort } of spec.ports) {
          ok(names.includes(targetPort), `${metadata.name}: ${targetPort}`);
        }
      }
    }
  });

  test("every disruption budget and every network policy of ours finds pods", () => {
    const all = [...workloads.map(({ labels }) => labels), ...workerLabels];
    const isOverlay = folder.startsWith("overlays/");
    for (const { metadata, spec } of ofKind("PodDisruptionBudget")) {
      if (!isOverlay) continue;
      ok(all.some((labels) => selects(spec.selector, labels)), metadata.name);
    }
    for (const { metadata, spec } of ofKind("NetworkPolicy")) {
      ok(
        all.some((labels) => selects(spec.podSelector, labels)),
        metadata.name,
      );
    }
  });

  test("every workload has a network policy of its own", () => {
    const policies = ofKind("NetworkPolicy").filter(({ spec }) =>
      Object.keys(spec.podSelector).length > 0 &&
      !spec.podSelector.matchLabels?.["app.kubernetes.io/part-of"]
    );
    for (const { name, labels } of workloads) {
      ok(
        policies.some(({ spec }) => selects(spec.podSelector, labels)),
        `${name} has none`,
      );
    }
  });

  test("ConfigMaps that pods name are there, and Secrets are the documented one", () => {
    const maps = ofKind("ConfigMap").map(({ metadata }) => metadata.name);
    for (const { name, pod } of workloads) {
      const fromEnv = pod.containers.flatMap((
        { envFrom = [] }: { envFrom?: { configMapRef: { name: string } }[] },
      ) => envFrom.map(({ configMapRef }) => configMapRef.name));
      const fromVolumes = (pod.volumes ?? []).flatMap((
        { configMap }: { configMap?: { name: string } },
      ) => configMap?.name ?? []);
      for (const map of [...fromEnv, ...fromVolumes]) {
        // The seed's comes from the overlay that uses it.
        if (folder === "options/seed" && map === "quetzal-seed") continue;
        ok(maps.includes(map), `${name} needs ${map}`);
      }
      const secrets = [
        ...JSON.stringify(pod).matchAll(
          /"secretKeyRef":\{"key":"\w+","name":"([\w-]+)"/g,
        ),
      ].map(([, secret]) => secret);
      ok(secrets.every((secret) => secret === "quetzal-dashboard"), name);
    }
  });
});

test.each(overlays)(
  "all images of %s have a version, and are those that `task images` builds",
  (folder) => {
    const manifests = render(folder);
    const known: string[] = Object.values(images).map(({ name }) => name);
    const worker = manifests
      .map(({ data }) => data?.QUETZAL_AUTOSCALER_WORKER_IMAGE)
      .find((image) => image !== undefined) as string;
    const named = workloadsIn(manifests).flatMap(({ pod }) =>
      pod.containers.map(({ image }: { image: string }) => image)
    );
    for (const image of [...named, worker]) {
      match(image, /:[\w.-]+$/);
      ok(!image.endsWith(":latest"), image);
      ok(known.includes(image.split(":")[0]), image);
    }
  },
);

/** What the autoscaler gives to the pods of a pool. */
const workerLabels = ["decode", "prefill"].map((role) => ({
  "app.kubernetes.io/component": role,
  "app.kubernetes.io/part-of": "quetzal",
}));

test("policies let those talk who must, and nobody else", () => {
  const manifests = render("overlays/dev");
  const policies = manifests.filter(({ kind }) => kind === "NetworkPolicy");
  const pods: Pod[] = [
    ...workloadsIn(manifests).map(({ labels }) => labels),
    ...workerLabels,
    { "app.kubernetes.io/component": "stranger" },
  ].map((labels) => ({
    name: labels["app.kubernetes.io/component"],
    labels,
  }));
  const ports = [
    ...[4222, 6222, 8222, 8080, 50_051, 50_071, 50_061, 9464, 8090, 4318],
    ...[22, 3000],
  ];
  const open = pods.flatMap((from) =>
    pods.flatMap((to) =>
      ports.filter((port) => mayConnect(policies, { from, to, port }))
        .map((port) => `${from.name} > ${to.name}:${port}`)
    )
  );
  deepEqual(open.sort(), [
    "autoscaler > dashboard:4318",
    "autoscaler > decode:50071",
    "autoscaler > nats:4222",
    "autoscaler > prefill:50061",
    "dashboard > decode:9464",
    "dashboard > nats:4222",
    "dashboard > prefill:9464",
    "dashboard > router:8080",
    "decode > dashboard:4318",
    "decode > nats:4222",
    "decode > prefill:50061",
    "nats > nats:6222",
    "prefill > dashboard:4318",
    "prefill > nats:4222",
    "router > dashboard:4318",
    "router > decode:50071",
    "router > nats:4222",
    // Embeddings.
    "router > prefill:50061",
  ]);
});

test("the overlay ha has no single machine that takes all of a kind", () => {
  const manifests = render("overlays/ha");
  const replicas: Record<string, number> = Object.fromEntries(
    manifests.filter(({ kind }) => ["Deployment", "StatefulSet"].includes(kind))
      .map(({ metadata, spec }) => [metadata.name, spec.replicas]),
  );
  for (const { name, pod } of workloadsIn(manifests)) {
    if (replicas[name] > 1) ok(pod.affinity.podAntiAffinity, name);
  }
  deepEqual(replicas, {
    "quetzal-autoscaler": 2,
    "quetzal-dashboard": 1,
    "quetzal-nats": 3,
    "quetzal-router": 3,
  });
  const budgets = manifests
    .filter(({ kind }) => kind === "PodDisruptionBudget")
    .map(({ metadata }) => metadata.name);
  deepEqual(budgets.sort(), [
    "quetzal-autoscaler",
    "quetzal-nats",
    "quetzal-router",
  ]);
});

test("the overlay gpu asks for GPUs, and for nodes that have them", () => {
  const file = join(k8sFolder, "overlays/gpu/objects/gpu.pool.yaml");
  const { spec } = parse(readFileSync(file, "utf8"));
  equal(spec.hardware.accelerator, "nvidia.com/gpu");
  const [term] = spec.affinity.nodeAffinity
    .requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms;
  equal(term.matchExpressions[0].key, "nvidia.com/gpu.present");
  equal(spec.tolerations[0].key, "nvidia.com/gpu");
});

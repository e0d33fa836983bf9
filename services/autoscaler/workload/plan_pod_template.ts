import type { WorkerPoolSpec } from "../crds/mod.ts";
import { labelsOf, selectorOf } from "./names.ts";
import { type PoolWorkload, workerPorts } from "./plan_pool_workload.ts";
import { workloadName } from "./names.ts";

/** The pods of a pool. `settingsHash` makes changed settings reach running pods. */
export function planPodTemplate(pool: PoolWorkload, settingsHash: string) {
  const { name, spec } = pool;
  return {
    metadata: {
      labels: { ...spec.podLabels, ...labelsOf(name, spec.role) },
      annotations: {
        "prometheus.io/scrape": "true",
        "prometheus.io/port": `${workerPorts.metrics}`,
        ...spec.podAnnotations,
        "quetzal.dev/settings-hash": settingsHash,
      },
    },
    spec: given({
      serviceAccountName: spec.serviceAccountName,
      // They would look like settings: QUETZAL_ROUTER_PORT=tcp://10.96.3.4:8080.
      enableServiceLinks: false,
      // Workers never speak to the API server.
      automountServiceAccountToken: false,
      // Time to drain, to leave NATS, and to be surprised.
      terminationGracePeriodSeconds: spec.drainSeconds + 15,
      securityContext: {
        runAsNonRoot: true,
        // The user of our images owns the cache volume, where its driver allows it.
        fsGroup: 65_532,
        fsGroupChangePolicy: "OnRootMismatch",
        seccompProfile: { type: "RuntimeDefault" },
      },
      nodeSelector: spec.nodeSelector,
      tolerations: spec.tolerations,
      affinity: spec.affinity,
      priorityClassName: spec.priorityClassName,
      runtimeClassName: spec.runtimeClassName,
      imagePullSecrets: spec.imagePullSecrets?.map((secret) => ({
        name: secret,
      })),
      topologySpreadConstraints: spec.spread.enabled
        ? [{
          maxSkew: 1,
          topologyKey: spec.spread.topologyKey,
          whenUnsatisfiable: "ScheduleAnyway",
          labelSelector: { matchLabels: selectorOf(name) },
        }]
        : undefined,
      containers: [containerOf(pool)],
      volumes: volumesOf(spec),
    }),
  };
}

function containerOf({ name, spec, defaults }: PoolWorkload) {
  const secret = defaults.natsSecret;
  return given({
    name: "worker",
    image: spec.image ?? defaults.image,
    imagePullPolicy: spec.imagePullPolicy,
    // The image's entry point is the runtime; its argument says which service.
    args: [`services/${spec.role}/main.ts`],
    envFrom: [{ configMapRef: { name: workloadName(name) } }],
    env: [
      fieldVariable("QUETZAL_POD_NAME", "metadata.name"),
      fieldVariable("QUETZAL_WORKER_ID", "metadata.name"),
      fieldVariable("QUETZAL_ADVERTISE", "status.podIP"),
      ...secret
        ? [{
          name: "QUETZAL_NATS_URL",
          valueFrom: { secretKeyRef: { name: secret, key: "url" } },
        }]
        : [],
    ],
    ports: [
      port("grpc", workerPorts[spec.role]),
      port("metrics", workerPorts.metrics),
    ],
    resources: resourcesOf(spec),
    securityContext: {
      allowPrivilegeEscalation: false,
      readOnlyRootFilesystem: true,
      capabilities: { drop: ["ALL"] },
    },
    // A start may have to read a large model that the settings name.
    startupProbe: {
      tcpSocket: { port: "grpc" },
      periodSeconds: 1,
      failureThreshold: 600,
    },
    // Ready means: takes requests. Not while it loads its first models or drains.
    readinessProbe: {
      httpGet: { path: "/health", port: "metrics" },
      periodSeconds: 2,
      timeoutSeconds: 2,
      failureThreshold: 3,
    },
    // Only a process that does not answer at all for a minute is stuck.
    livenessProbe: {
      httpGet: { path: "/metrics", port: "metrics" },
      periodSeconds: 10,
      timeoutSeconds: 5,
      failureThreshold: 6,
    },
    volumeMounts: [
      { name: "tmp", mountPath: "/tmp" },
      { name: "cache", mountPath: "/var/cache/quetzal" },
      ...spec.storage.models
        ? [{ name: "models", mountPath: "/models", readOnly: true }]
        : [],
    ],
  });
}

function resourcesOf({ resources, hardware }: WorkerPoolSpec) {
  const devices = hardware?.accelerator
    ? { [hardware.accelerator]: hardware.count }
    : {};
  // Devices are never shared or overcommitted, so the request is the limit.
  return {
    requests: texts({ ...resources.requests, ...devices }),
    limits: texts({ ...resources.limits, ...devices }),
  };
}

/** Server-side apply takes quantities as text only, though a client may write numbers. */
function texts(
  quantities: Readonly<Record<string, string | number>>,
): Record<string, string> {
  return Object.fromEntries(
    Object.entries(quantities).map(([name, amount]) => [name, `${amount}`]),
  );
}

type Volume = NonNullable<WorkerPoolSpec["storage"]["models"]>;

function volumesOf({ storage }: WorkerPoolSpec) {
  return [
    { name: "tmp", emptyDir: {} },
    { name: "cache", ...sourceOf(storage.cache, "DirectoryOrCreate") },
    ...storage.models
      ? [{ name: "models", ...sourceOf(storage.models, "Directory") }]
      : [],
  ];
}

function sourceOf(
  { claimName, hostPath, sizeLimit }: Volume,
  type: "Directory" | "DirectoryOrCreate",
) {
  if (claimName !== undefined) return { persistentVolumeClaim: { claimName } };
  if (hostPath !== undefined) return { hostPath: { path: hostPath, type } };
  return {
    emptyDir: given({
      sizeLimit: sizeLimit === undefined ? undefined : `${sizeLimit}`,
    }),
  };
}

function fieldVariable(name: string, fieldPath: string) {
  return { name, valueFrom: { fieldRef: { apiVersion: "v1", fieldPath } } };
}

function port(name: string, containerPort: number) {
  return { name, containerPort, protocol: "TCP" };
}

function given<T extends Record<string, unknown>>(fields: T): T {
  return Object.fromEntries(
    Object.entries(fields).filter(([, value]) => value !== undefined),
  ) as T;
}

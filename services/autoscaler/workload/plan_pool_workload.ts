import { apiVersion, type WorkerPoolSpec } from "../crds/mod.ts";
import {
  hashOf,
  type KubeObject,
  type OwnerReference,
  parseQuantity,
  type ResourceType,
  resourceTypes,
} from "../kube/mod.ts";
import { labelsOf, selectorOf, workloadName } from "./names.ts";
import { planPodTemplate } from "./plan_pod_template.ts";

/** What the controller adds to every pool; the same for the whole installation. */
export interface WorkloadDefaults {
  readonly image: string;
  readonly natsUrl: string;
  /** A Secret whose key `url` holds the NATS URL; wins over `natsUrl`. */
  readonly natsSecret: string | undefined;
  readonly otlpEndpoint: string | undefined;
}

export interface PoolWorkload {
  readonly name: string;
  readonly namespace: string;
  readonly uid: string;
  readonly spec: WorkerPoolSpec;
  readonly replicas: number;
  readonly defaults: WorkloadDefaults;
  /** What the server has: `policy/v1` since 1.21, `policy/v1beta1` until 1.24. */
  readonly disruptionApi: "policy/v1" | "policy/v1beta1";
}

export interface PlannedObject {
  readonly type: ResourceType;
  readonly desired: KubeObject;
}

export const workerPorts = { decode: 50_071, prefill: 50_061, metrics: 9_464 };

export const disruptionBudgetType = (
  disruptionApi: PoolWorkload["disruptionApi"],
): ResourceType => ({
  apiVersion: disruptionApi,
  kind: "PodDisruptionBudget",
  plural: "poddisruptionbudgets",
});

/**
 * Everything that a pool consists of: settings, pods, their addresses, and what
 * may happen to them. Pure: equal pools give equal objects, to the byte.
 *
 * A Deployment rather than a StatefulSet: workers are interchangeable, have no state
 * that outlives them (KV is rebuilt, weights are files), and are to start all at once.
 */
export function planPoolWorkload(pool: PoolWorkload): PlannedObject[] {
  const settings = settingsOf(pool);
  return [
    {
      type: resourceTypes.configMap,
      desired: {
        ...headOf(pool, resourceTypes.configMap),
        data: settings,
      },
    },
    { type: resourceTypes.service, desired: serviceOf(pool) },
    {
      type: disruptionBudgetType(pool.disruptionApi),
      desired: {
        ...headOf(pool, disruptionBudgetType(pool.disruptionApi)),
        spec: {
          maxUnavailable: pool.spec.disruption.maxUnavailable,
          selector: { matchLabels: selectorOf(pool.name) },
        },
      },
    },
    { type: resourceTypes.deployment, desired: deploymentOf(pool, settings) },
  ];
}

function headOf(
  { name, namespace, uid, spec }: PoolWorkload,
  { apiVersion: api, kind }: ResourceType,
) {
  const owner: OwnerReference = {
    apiVersion,
    kind: "WorkerPool",
    name,
    uid,
    controller: true,
    blockOwnerDeletion: true,
  };
  return {
    apiVersion: api,
    kind,
    metadata: {
      name: workloadName(name),
      namespace,
      labels: labelsOf(name, spec.role),
      ownerReferences: [owner],
    },
  };
}

function serviceOf(pool: PoolWorkload): KubeObject {
  const port = (name: string, number: number) => ({
    name,
    port: number,
    targetPort: name,
    protocol: "TCP",
  });
  return {
    ...headOf(pool, resourceTypes.service),
    spec: {
      type: "ClusterIP",
      // Headless: the mesh finds workers in NATS; this is for people and for scraping.
      clusterIP: "None",
      publishNotReadyAddresses: true,
      selector: selectorOf(pool.name),
      ports: [
        port("grpc", workerPorts[pool.spec.role]),
        port("metrics", workerPorts.metrics),
      ],
    },
  };
}

function deploymentOf(
  pool: PoolWorkload,
  settings: Readonly<Record<string, string>>,
): KubeObject {
  const { rollout } = pool.spec;
  return {
    ...headOf(pool, resourceTypes.deployment),
    spec: {
      replicas: pool.replicas,
      revisionHistoryLimit: 3,
      // Downloads happen after the start, so ten minutes without progress mean something.
      progressDeadlineSeconds: 600,
      selector: { matchLabels: selectorOf(pool.name) },
      strategy: {
        type: "RollingUpdate",
        rollingUpdate: {
          maxUnavailable: rollout.maxUnavailable,
          maxSurge: rollout.maxSurge,
        },
      },
      template: planPodTemplate(pool, hashOf(settings)),
    },
  };
}

/** The worker's environment as far as it is the same for all pods. */
function settingsOf({ spec, defaults }: PoolWorkload): Record<string, string> {
  const { runtime, role } = spec;
  const settings: Record<string, string | number | undefined> = {
    QUETZAL_HOST: "0.0.0.0",
    [`QUETZAL_${role.toUpperCase()}_PORT`]: workerPorts[role],
    QUETZAL_METRICS_PORT: workerPorts.metrics,
    QUETZAL_NATS_URL: defaults.natsSecret ? undefined : defaults.natsUrl,
    OTEL_EXPORTER_OTLP_ENDPOINT: defaults.otlpEndpoint,
    QUETZAL_MODEL_CACHE: "/var/cache/quetzal",
    QUETZAL_DRAIN_TIMEOUT: `${spec.drainSeconds}s`,
    QUETZAL_LOG_LEVEL: runtime.logLevel,
    QUETZAL_THREADS: runtime.threads,
    QUETZAL_KV_BLOCKS: runtime.kvBlocks,
    QUETZAL_BATCH_TOKENS: runtime.batchTokens,
    QUETZAL_RUNNING_MAX: runtime.runningMax,
    QUETZAL_WAITING_MAX: runtime.waitingMax,
    QUETZAL_ISA: runtime.isa,
    QUETZAL_MODEL_MEMORY_BYTES: runtime.modelMemory === undefined
      ? undefined
      : Math.round(parseQuantity(runtime.modelMemory) ?? 0),
    ...runtime.env,
  };
  return Object.fromEntries(
    Object.entries(settings)
      .filter(([, value]) => value !== undefined)
      .map(([key, value]) => [key, `${value}`]),
  );
}

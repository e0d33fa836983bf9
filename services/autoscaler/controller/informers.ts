import type { Logger } from "../../../lib/telemetry/mod.ts";
import {
  Informer,
  type InformerNote,
  type KubeClient,
  type KubeObject,
  type ResourceType,
  resourceTypes,
} from "../kube/mod.ts";
import type { ControllerMetrics } from "../metrics.ts";
import {
  disruptionBudgetType,
  type PoolWorkload,
} from "../workload/plan_pool_workload.ts";
import { poolLabel } from "../workload/names.ts";
import type { Informers } from "./context.ts";
import { keepOfPod, type PodObject } from "./pod_index.ts";
import {
  type JobObject,
  jobType,
  type ModelObject,
  modelType,
  type PoolObject,
  poolType,
} from "./resources.ts";

export interface InformersOptions {
  readonly client: KubeClient;
  readonly namespace: string;
  readonly disruptionApi: PoolWorkload["disruptionApi"];
  readonly metrics: ControllerMetrics;
  readonly log: Logger;
  readonly random: () => number;
  readonly onChange: (change: ObjectChange) => void;
  readonly onPod: (name: string, pod: PodObject | undefined) => void;
}

export interface ObjectChange {
  readonly kind: "model" | "pool" | "job" | "owned";
  readonly name: string;
  readonly specChanged: boolean;
  /** The pool that an owned object belongs to. */
  readonly owner?: string;
}

export interface RunningInformers extends Informers {
  /** Resolves once everything was listed. */
  readonly synced: Promise<void>;
  run(signal: AbortSignal): Promise<void>;
}

/** Everything the controller watches, in one namespace. */
export function createInformers(options: InformersOptions): RunningInformers {
  const { client, namespace, random, onChange, onPod } = options;
  const common = (type: ResourceType) => ({
    client,
    namespace,
    random,
    type,
    onNote: (note: InformerNote) => tell(note, type.plural, options),
  });
  const custom = <T extends KubeObject>(
    kind: "model" | "pool" | "job",
    type: ResourceType,
  ) => {
    const marks = new Map<string, string>();
    return new Informer<T>({
      ...common(type),
      onChange(name, object) {
        const mark = object && markOf(object);
        const specChanged = mark === undefined || marks.get(name) !== mark;
        if (mark === undefined) marks.delete(name);
        else marks.set(name, mark);
        onChange({ kind, name, specChanged });
      },
    });
  };
  const models = custom<ModelObject>("model", modelType);
  const pools = custom<PoolObject>("pool", poolType);
  const jobs = custom<JobObject>("job", jobType);
  const pods = new Informer<PodObject>({
    ...common(resourceTypes.pod),
    labelSelector: poolLabel,
    keep: keepOfPod,
    onChange: onPod,
  });
  const owned = new Map(
    [
      resourceTypes.deployment,
      resourceTypes.service,
      resourceTypes.configMap,
      disruptionBudgetType(options.disruptionApi),
    ].map((type) => [type.plural, ownedInformer(type)] as const),
  );

  function ownedInformer(type: ResourceType): Informer<KubeObject> {
    const owners = new Map<string, string>();
    return new Informer<KubeObject>({
      ...common(type),
      labelSelector: "app.kubernetes.io/managed-by=quetzal-autoscaler",
      onChange(name, object) {
        const owner = object?.metadata.labels?.[poolLabel] ?? owners.get(name);
        if (owner === undefined) return;
        if (object) owners.set(name, owner);
        else owners.delete(name);
        onChange({ kind: "owned", name, specChanged: true, owner });
      },
    });
  }

  const all = [models, pools, jobs, pods, ...owned.values()];
  return {
    models,
    pools,
    jobs,
    pods,
    owned,
    synced: Promise.all(all.map((informer) => informer.synced)).then(() => {}),
    async run(signal) {
      await Promise.all(all.map((informer) => informer.run(signal)));
    },
  };
}

/** What makes us look again: our own writes to the status do not. */
function markOf({ metadata }: KubeObject): string {
  const { uid, generation, deletionTimestamp = "", finalizers = [] } = metadata;
  return [uid, generation, deletionTimestamp, ...finalizers].join(" ");
}

function tell(
  note: InformerNote,
  resource: string,
  { metrics, log }: InformersOptions,
): void {
  switch (note.kind) {
    case "listed":
      log.debug({ resource, count: note.count }, "Listed");
      metrics.relists.inc({ resource, why: "any" });
      return;
    case "expired":
      log.info({ resource }, "The watch expired; lists again");
      metrics.relists.inc({ resource, why: "expired" });
      return;
    case "malformed":
      log.warn({ resource, line: note.line }, "A watch line is no event");
      metrics.relists.inc({ resource, why: "malformed" });
      return;
    case "failed":
      log.warn({ resource, err: note.reason }, "The watch broke off");
      metrics.watchFailures.inc({ resource });
  }
}

interface GroupList {
  readonly groups: readonly {
    readonly name: string;
    readonly versions: readonly { readonly version: string }[];
  }[];
}

/** `policy/v1` exists since 1.21, `policy/v1beta1` until 1.24: asks what is there. */
export async function discoverDisruptionApi(
  client: KubeClient,
  signal: AbortSignal,
): Promise<PoolWorkload["disruptionApi"]> {
  const { groups } = await client.call<GroupList>({ path: "/apis", signal });
  const policy = groups.find(({ name }) => name === "policy");
  const hasV1 = policy?.versions.some(({ version }) => version === "v1");
  return hasV1 ? "policy/v1" : "policy/v1beta1";
}

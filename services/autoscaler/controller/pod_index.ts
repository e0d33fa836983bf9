import type { KubeObject } from "../kube/mod.ts";
import type { PodView } from "../scaling/pool_workers.ts";
import { poolLabel } from "../workload/names.ts";

export type PodObject = KubeObject & {
  readonly spec?: { readonly nodeName?: string };
  readonly status?: {
    readonly phase?: string;
    readonly conditions?: readonly {
      readonly type: string;
      readonly status: string;
    }[];
  };
};

/** The fields of a pod that we read: a pod as a whole takes some 10 kB. */
export function keepOfPod({ metadata, spec, status }: PodObject): PodObject {
  const { name, namespace, uid, resourceVersion, labels, deletionTimestamp } =
    metadata;
  const { annotations = {} } = metadata;
  const cost = annotations[deletionCost];
  return {
    metadata: {
      name,
      namespace,
      uid,
      resourceVersion,
      deletionTimestamp,
      labels: { [poolLabel]: labels?.[poolLabel] ?? "" },
      annotations: cost === undefined ? {} : { [deletionCost]: cost },
    },
    spec: { nodeName: spec?.nodeName },
    status: {
      phase: status?.phase,
      conditions: status?.conditions?.filter(({ type }) => type === "Ready")
        .map(({ type, status }) => ({ type, status })),
    },
  };
}

/** Read by Kubernetes 1.22 and later when a Deployment shrinks; the lowest goes first. */
export const deletionCost = "controller.kubernetes.io/pod-deletion-cost";

/** Pods by pool. */
export class PodIndex {
  readonly #pools = new Map<string, Map<string, PodView>>();
  readonly #poolOf = new Map<string, string>();
  readonly #nowMs: () => number;

  constructor(nowMs: () => number) {
    this.#nowMs = nowMs;
  }

  /** Answers with the pool whose pods changed. */
  take(name: string, pod: PodObject | undefined): string | undefined {
    const pool = pod?.metadata.labels?.[poolLabel] || this.#poolOf.get(name);
    if (!pool) return undefined;
    const pods = this.#pools.get(pool) ?? new Map<string, PodView>();
    const isOver = ["Succeeded", "Failed"].includes(pod?.status?.phase ?? "");
    if (!pod || isOver) {
      pods.delete(name);
      this.#poolOf.delete(name);
    } else {
      this.#poolOf.set(name, pool);
      pods.set(name, this.#viewOf(pod, pods.get(name)));
    }
    if (pods.size > 0) this.#pools.set(pool, pods);
    else this.#pools.delete(pool);
    return pool;
  }

  of(pool: string): PodView[] {
    return [...this.#pools.get(pool)?.values() ?? []];
  }

  poolOf(pod: string): string | undefined {
    return this.#poolOf.get(pod);
  }

  #viewOf(pod: PodObject, before: PodView | undefined): PodView {
    const ready =
      pod.status?.conditions?.some(({ type, status }) =>
        type === "Ready" && status === "True"
      ) ?? false;
    return {
      name: pod.metadata.name,
      node: pod.spec?.nodeName ?? "",
      ready,
      deleting: pod.metadata.deletionTimestamp !== undefined,
      readySinceMs: ready ? before?.readySinceMs ?? this.#nowMs() : undefined,
    };
  }
}

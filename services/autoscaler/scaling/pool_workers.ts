import type { WorkerRecord } from "../../../lib/bus/types.ts";
import type { WorkerPoolSpec } from "../crds/mod.ts";
import { parseQuantity } from "../kube/mod.ts";
import type { PoolWorker } from "./plan_placement.ts";

/** A pod of a pool, as the API server shows it. */
export interface PodView {
  readonly name: string;
  readonly node: string;
  readonly ready: boolean;
  readonly deleting: boolean;
  /** Since when it has been ready, by our clock. */
  readonly readySinceMs: number | undefined;
}

/** A ready pod that has not been heard of for this long is silent. */
const silentMs = 20_000;

/** Pods that have joined the mesh: the API server's word and their own together. */
export function joinWorkers(
  pods: readonly PodView[],
  records: readonly WorkerRecord[],
  pendingOf: (workerId: string) => ReadonlySet<string>,
): PoolWorker[] {
  const byName = new Map(pods.map((pod) => [pod.name, pod]));
  return records.flatMap((record): PoolWorker[] => {
    const pod = byName.get(record.podName ?? record.workerId);
    if (!pod) return [];
    return [{
      workerId: record.workerId,
      pod: pod.name,
      node: pod.node,
      ready: pod.ready && !pod.deleting,
      draining: record.draining || pod.deleting,
      memoryBytesTotal: record.memoryBytesTotal,
      memoryBytesFree: record.memoryBytesFree,
      models: record.models,
      pending: pendingOf(record.workerId),
    }];
  });
}

export function isUsable({ ready, draining }: PoolWorker): boolean {
  return ready && !draining;
}

/** Whether it runs or queues anything. */
export function hasWork({ models }: PoolWorker): boolean {
  return models.some(({ running, waiting }) => running + waiting > 0);
}

/** Pods that should have been heard of. */
export function unheard(
  pods: readonly PodView[],
  workers: readonly PoolWorker[],
): PodView[] {
  const heard = new Set(workers.map(({ pod }) => pod));
  return pods.filter(({ name, ready, deleting }) =>
    ready && !deleting && !heard.has(name)
  );
}

/** Ready pods of which nobody knows what they do. */
export function silentCount(
  pods: readonly PodView[],
  workers: readonly PoolWorker[],
  nowMs: number,
): number {
  return unheard(pods, workers)
    .filter(({ readySinceMs }) => nowMs - (readySinceMs ?? nowMs) > silentMs)
    .length;
}

/** Memory for models on one worker; Infinity while unknown. */
export function bytesPerWorker(
  { runtime }: WorkerPoolSpec,
  workers: readonly PoolWorker[],
): number {
  const told = Math.max(0, ...workers.map((worker) => worker.memoryBytesTotal));
  if (told > 0) return told;
  const set = runtime.modelMemory === undefined
    ? undefined
    : parseQuantity(runtime.modelMemory);
  return set ?? Infinity;
}

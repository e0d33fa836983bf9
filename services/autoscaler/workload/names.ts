import type { WorkerPoolSpec } from "../crds/mod.ts";

/** Label by which a pool's pods are selected; nothing else may set it. */
export const poolLabel = "quetzal.dev/pool";

/** Name of a pool's Deployment, Service, ConfigMap and PodDisruptionBudget. */
export function workloadName(pool: string): string {
  return `${pool}-workers`;
}

export function selectorOf(pool: string): Record<string, string> {
  return { [poolLabel]: pool };
}

export function labelsOf(
  pool: string,
  role: WorkerPoolSpec["role"],
): Record<string, string> {
  return {
    "app.kubernetes.io/name": "quetzal-worker",
    "app.kubernetes.io/component": role,
    "app.kubernetes.io/part-of": "quetzal",
    "app.kubernetes.io/managed-by": "quetzal-autoscaler",
    [poolLabel]: pool,
  };
}

import type { WorkerPoolSpec } from "../crds/mod.ts";
import type { PoolWish } from "./decide_pool.ts";
import type { ScaledModel } from "./scaled_model.ts";

/** What a model that names the pool wants of it. */
export function wishOf(
  model: ScaledModel,
  pool: string,
  spec: WorkerPoolSpec,
): PoolWish {
  const isDecode = model.spec.pool === pool;
  // Two decode workers keep one prefill worker busy.
  const copies = isDecode ? model.copies : Math.ceil(model.copies / 2);
  return {
    model: model.name,
    copies: Math.min(copies, spec.replicas ?? spec.scaling.replicasMax),
    residency: model.decision?.residency ?? "absent",
    ...shareOf(model, spec),
    bytes: model.bytes,
  };
}

/** Policies that plan shares say so; the others' load is measured against its target. */
function shareOf(
  { decision, spec }: ScaledModel,
  pool: WorkerPoolSpec,
): { share: number; shareVariance: number } {
  const numbers = decision?.numbers ?? {};
  if (numbers.share !== undefined) {
    return { share: numbers.share, shareVariance: numbers.shareVariance ?? 0 };
  }
  const load = numbers.value ?? numbers.total ?? numbers.stable ?? 0;
  return {
    share: pool.scaling.utilization * load / spec.scaling.targetPerReplica,
    shareVariance: 0,
  };
}

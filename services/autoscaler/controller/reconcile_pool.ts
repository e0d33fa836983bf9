import {
  type Fault,
  faultText,
  parse,
  type WorkerPoolSpec,
  workerPoolSpec,
} from "../crds/mod.ts";
import {
  type FieldConflict,
  type KubeObject,
  pathOf,
  resourceTypes,
} from "../kube/mod.ts";
import { planPoolStatus } from "../status/plan_pool_status.ts";
import { checkWorkerPool } from "../workload/check_spec.ts";
import { workloadName } from "../workload/names.ts";
import {
  type PlannedObject,
  planPoolWorkload,
} from "../workload/plan_pool_workload.ts";
import type { Context } from "./context.ts";
import { deletionCost } from "./pod_index.ts";
import { drainFinalizer, type PoolObject, poolType } from "./resources.ts";

/** Between two looks at pods that are to go. */
const drainLookMs = 1_000;
/** Beyond the grace of its pods, a pool waits no longer than this to go. */
const drainSlackMs = 30_000;

/** Brings one pool to what its spec and the last decision say. */
export async function reconcilePool(
  name: string,
  context: Context,
): Promise<number | void> {
  const { informers, scaler } = context;
  const pool = informers.pools.get(name);
  if (!pool) return forget(name, context);
  const { spec, faults } = readPool(pool);
  if (pool.metadata.deletionTimestamp !== undefined) {
    return await drain(pool, spec, context);
  }
  noteFaults(pool, faults, context);
  if (!spec || faults.length > 0) {
    return await writeStatus(pool, { faults, conflicts: undefined }, context);
  }
  const kept = await context.writer.addFinalizer(poolType, pool);
  informers.pools.absorb(kept);
  scaler.setPool(name, spec, podsAtFirst(pool, spec, context));
  const wanted = scaler.poolWanted(name)?.wanted ?? 0;
  const conflicts = await applyWorkload(kept, { spec, wanted }, context);
  context.metrics.poolReplicas.set({ pool: name }, wanted);
  await writeStatus(kept, { faults, conflicts }, context);
}

export function readPool(
  { metadata, spec }: PoolObject,
): { spec: WorkerPoolSpec | undefined; faults: readonly Fault[] } {
  const parsed = parse(workerPoolSpec, spec ?? {}, "spec");
  if (parsed.kind === "invalid") {
    return { spec: undefined, faults: parsed.faults };
  }
  const faults = checkWorkerPool(metadata.name, parsed.value);
  return { spec: parsed.value, faults };
}

function forget(name: string, context: Context): void {
  const key = `pool/${name}`;
  context.scaler.removePool(name);
  context.decisions.delete(key);
  context.drains.end(key);
  context.conflicts.delete(name);
  context.invalid.delete(key);
  context.metrics.poolReplicas.remove({ pool: name });
}

/** Pods before our time: what the Deployment has, else what the spec asks for at least. */
function podsAtFirst(
  { metadata }: PoolObject,
  spec: WorkerPoolSpec,
  { informers }: Context,
): number {
  const deployment = informers.owned.get("deployments")?.get(
    workloadName(metadata.name),
  );
  const { replicas } = (deployment?.spec ?? {}) as { replicas?: number };
  return replicas ?? spec.scaling.replicasMin;
}

async function applyWorkload(
  pool: PoolObject,
  { spec, wanted }: { spec: WorkerPoolSpec; wanted: number },
  context: Context,
): Promise<FieldConflict[]> {
  const { name, uid = "" } = pool.metadata;
  const { namespace, defaults, disruptionApi } = context;
  const objects = planPoolWorkload({
    name,
    namespace,
    uid,
    spec,
    replicas: wanted,
    defaults,
    disruptionApi,
  });
  await markCheapest(name, wanted, context);
  const found = await Promise.all(
    objects.map((object) => applyOne(object, context)),
  );
  const fresh = found.flatMap((conflicts) => conflicts ?? []);
  // An object that was not sent is as it was, and so are its conflicts.
  const before = new Map(context.conflicts.get(name));
  found.forEach((conflicts, index) => {
    if (conflicts) before.set(objects[index].type.plural, conflicts);
  });
  context.conflicts.set(name, before);
  for (const { field, manager } of fresh) {
    context.metrics.conflicts.inc();
    context.event({
      about: pool,
      type: "Warning",
      reason: "FieldConflict",
      message: `${field} is left to "${manager}", which owns it`,
    });
  }
  return [...before.values()].flat();
}

/** `undefined`: nothing was sent. */
async function applyOne(
  { type, desired }: PlannedObject,
  { applier, informers, metrics }: Context,
): Promise<FieldConflict[] | undefined> {
  const informer = informers.owned.get(type.plural);
  const live = informer?.get(desired.metadata.name);
  const outcome = await applier.apply({ type, desired, live });
  if (outcome.kind === "unchanged") return undefined;
  metrics.writes.inc({ kind: type.kind });
  informer?.absorb(outcome.object);
  return [...outcome.conflicts];
}

/** Before a pool shrinks: its idlest pods are to go first, where Kubernetes asks (1.22). */
async function markCheapest(
  pool: string,
  wanted: number,
  { pods, mesh, client, namespace, informers, metrics }: Context,
): Promise<void> {
  const own = pods.of(pool).filter(({ deleting }) => !deleting);
  if (own.length <= wanted || wanted === 0) return;
  const records = new Map(
    mesh.workers().map((record) => [record.podName ?? record.workerId, record]),
  );
  await Promise.all(own.map(async ({ name }) => {
    const models = records.get(name)?.models ?? [];
    const sequences = models.reduce(
      (sum, { running, waiting }) => sum + running + waiting,
      0,
    );
    const cost = `${sequences * 100 + models.length}`;
    const live = informers.pods.get(name)?.metadata.annotations?.[deletionCost];
    if (live === cost) return;
    metrics.writes.inc({ kind: "Pod" });
    await client.call({
      method: "PATCH",
      path: pathOf(resourceTypes.pod, { namespace, name }),
      contentType: "application/merge-patch+json",
      body: { metadata: { annotations: { [deletionCost]: cost } } },
    });
  }));
}

/** Pods first, then the rest: the API server deletes what the pool owns. */
async function drain(
  pool: PoolObject,
  spec: WorkerPoolSpec | undefined,
  context: Context,
): Promise<number | void> {
  const { name, uid = "", finalizers = [] } = pool.metadata;
  if (!finalizers.includes(drainFinalizer)) return;
  const { scaler, pods, writer, drains, informers } = context;
  scaler.removePool(name);
  const left = pods.of(name).length;
  const graceMs = ((spec?.drainSeconds ?? 0) + 15) * 1_000;
  const waitedMs = drains.elapsedMs(`pool/${name}`, uid);
  const hasWorkload = informers.owned.get("deployments")?.get(
    workloadName(name),
  ) !== undefined;
  if (spec && hasWorkload) {
    await applyWorkload(pool, { spec, wanted: 0 }, context);
  }
  if (left > 0 && waitedMs < graceMs + drainSlackMs) {
    await writeStatus(pool, { faults: [], conflicts: undefined }, context);
    return drainLookMs;
  }
  context.event({
    about: pool,
    type: left > 0 ? "Warning" : "Normal",
    reason: "Drained",
    message: left > 0
      ? `Gone with ${left} pod(s) that did not end in time`
      : "All its pods have ended",
  });
  await writer.removeFinalizer(poolType, pool);
}

async function writeStatus(
  pool: PoolObject,
  { faults, conflicts }: {
    readonly faults: readonly Fault[];
    /** `undefined`: those known from before. */
    readonly conflicts: readonly FieldConflict[] | undefined;
  },
  context: Context,
): Promise<void> {
  const { informers, scaler, mesh, pods, decisions, writer } = context;
  const { name, generation = 0 } = pool.metadata;
  const { sight } = mesh;
  const isTold = pool.status?.observedGeneration === generation;
  // What we would say of its workers now is only that we do not know yet.
  if (sight === "settling" && isTold && faults.length === 0) return;
  const own = new Set(pods.of(name).map((pod) => pod.name));
  const { wanted = 0, reason = "steady" } = scaler.poolWanted(name) ?? {};
  const known = [...context.conflicts.get(name)?.values() ?? []].flat();
  const status = planPoolStatus({
    name,
    before: pool.status ?? {},
    generation,
    faults,
    deleting: pool.metadata.deletionTimestamp !== undefined,
    wanted,
    reason,
    deployment: informers.owned.get("deployments")?.get(workloadName(name)),
    conflicts: conflicts ?? known,
    joined: mesh.workers()
      .filter(({ podName, workerId }) => own.has(podName ?? workerId)).length,
    models: informers.models.list().filter(({ spec }) =>
      spec?.pool === name || spec?.prefillPool === name
    ).length,
    decisions: decisions.of(`pool/${name}`),
    blind: sight === "outage",
    nowMs: context.wallMs(),
  });
  const written = await writer.status(poolType, pool, { ...status });
  if (written) informers.pools.absorb(written);
}

/** Tells of faults once, and of their end. */
export function noteFaults(
  object: KubeObject,
  faults: readonly Fault[],
  { invalid, event, metrics }: Context,
  key = `pool/${object.metadata.name}`,
): void {
  const known = invalid.has(key);
  if (faults.length > 0) {
    invalid.add(key);
    if (!known) {
      event({
        about: object,
        type: "Warning",
        reason: "InvalidSpec",
        message: faults.map(faultText).join("; "),
      });
    }
  } else invalid.delete(key);
  metrics.invalid.set(invalid.size);
}

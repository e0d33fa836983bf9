import { type Fault, type ModelSpec, modelSpec, parse } from "../crds/mod.ts";
import { hashOf, stableJson } from "../kube/mod.ts";
import { planModelStatus } from "../status/plan_model_status.ts";
import { checkModel } from "../workload/check_spec.ts";
import type { Context } from "./context.ts";
import { entryOf } from "./model_entry.ts";
import { noteFaults, readPool } from "./reconcile_pool.ts";
import {
  createdMs,
  drainFinalizer,
  type ModelObject,
  modelType,
} from "./resources.ts";

const drainLookMs = 1_000;
/** Beyond its own drain time a Model waits no longer than this for workers to answer. */
const drainSlackMs = 30_000;

/** Makes one Model known to scaling and routers, and says how it is. */
export async function reconcileModel(
  name: string,
  context: Context,
): Promise<number | void> {
  const { informers, scaler, writer } = context;
  const model = informers.models.get(name);
  if (!model) return await forget(name, context);
  const { spec, faults } = readModel(model, context);
  if (model.metadata.deletionTimestamp !== undefined) {
    return await drain(model, spec, context);
  }
  noteFaults(model, faults, context, `model/${name}`);
  const kept = await writer.addFinalizer(modelType, model);
  informers.models.absorb(kept);
  if (spec && faults.length === 0) {
    scaler.setModel(name, spec, {
      weightBytes: model.status?.weightBytes ?? 0,
    });
  } else scaler.removeModel(name);
  const sourceHash = spec && faults.length === 0
    ? sourceOnWorkers(kept, spec, context)
    : kept.status?.sourceHash;
  await writeStatus(kept, { spec, faults, sourceHash }, context);
  if (spec && faults.length === 0) await publish(name, spec, context);
}

export function readModel(
  model: ModelObject,
  { informers }: Context,
): { spec: ModelSpec | undefined; faults: readonly Fault[] } {
  const parsed = parse(modelSpec, model.spec ?? {}, "spec");
  if (parsed.kind === "invalid") {
    return { spec: undefined, faults: parsed.faults };
  }
  const { value: spec } = parsed;
  const poolOf = (pool: string | undefined) => {
    const object = pool === undefined ? undefined : informers.pools.get(pool);
    return object && readPool(object).spec;
  };
  const faults = checkModel(spec, {
    name: model.metadata.name,
    createdMs: createdMs(model),
    pool: poolOf(spec.pool),
    prefillPool: poolOf(spec.prefillPool),
    others: () =>
      informers.models.list()
        .filter(({ metadata }) => metadata.deletionTimestamp === undefined)
        .map((other) => ({
          name: other.metadata.name,
          createdMs: createdMs(other),
          aliases: other.spec?.aliases ?? [],
          pool: other.spec?.pool ?? "",
        })),
  });
  return { spec, faults };
}

async function forget(name: string, context: Context): Promise<void> {
  const key = `model/${name}`;
  context.scaler.removeModel(name);
  context.decisions.delete(key);
  context.drains.end(key);
  context.invalid.delete(key);
  context.metrics.modelCopies.remove({ model: name });
  await context.mesh.removeEntry(name);
}

/** Routers follow the bucket `models`; its changes queue the Model, so it heals itself. */
async function publish(
  name: string,
  spec: ModelSpec,
  { mesh }: Context,
): Promise<void> {
  const entry = entryOf(name, spec);
  const known = mesh.entry(name);
  if (known && stableJson(known) === stableJson(entry)) return;
  await mesh.putEntry(entry);
}

/**
 * The hash of the source that workers have or will load. After a change of the
 * source they lose what they have, which is another model; while nobody can say who
 * has it, the old hash stands and the change is taken up later.
 */
function sourceOnWorkers(
  model: ModelObject,
  spec: ModelSpec,
  { mesh, placer, event }: Context,
): string {
  const before = model.status?.sourceHash;
  const wanted = hashOf(spec.source);
  if (before === undefined || before === wanted) return wanted;
  if (mesh.isBlind()) return before;
  const { name } = model.metadata;
  const holders = mesh.workers()
    .filter(({ models }) => models.some((own) => own.model === name));
  for (const { workerId } of holders) {
    placer.takeAway(workerId, name, "other-source");
  }
  event({
    about: model,
    type: "Normal",
    reason: "SourceChanged",
    message: `Its source was changed: ${holders.length} worker(s) load it anew`,
  });
  return wanted;
}

/** Routers first, then running requests, then the workers' memory. */
async function drain(
  model: ModelObject,
  spec: ModelSpec | undefined,
  context: Context,
): Promise<number | void> {
  const { name, uid = "", finalizers = [] } = model.metadata;
  if (!finalizers.includes(drainFinalizer)) return;
  const { scaler, mesh, placer, writer, drains } = context;
  scaler.removeModel(name);
  await mesh.removeEntry(name);
  const drainMs = (spec?.drainSeconds ?? 60) * 1_000;
  const waitedMs = drains.elapsedMs(`model/${name}`, uid);
  const holders = mesh.workers()
    .filter(({ models }) => models.some((own) => own.model === name));
  for (const { workerId } of holders) {
    placer.takeAway(workerId, name, "deleted");
  }
  // Blind, nobody can say that it is gone; unless there are no pods at all.
  const unsure = mesh.isBlind() && context.informers.pods.size > 0;
  const inTime = waitedMs < drainMs + drainSlackMs;
  if ((holders.length > 0 || unsure) && inTime) {
    const { sourceHash } = model.status ?? {};
    await writeStatus(model, { spec, faults: [], sourceHash }, context);
    return drainLookMs;
  }
  context.event({
    about: model,
    type: inTime ? "Normal" : "Warning",
    reason: "Drained",
    message: inTime
      ? "No worker has it any more"
      : `Gone while ${holders.length} worker(s) did not answer`,
  });
  await writer.removeFinalizer(modelType, model);
}

async function writeStatus(
  model: ModelObject,
  { spec, faults, sourceHash }: {
    readonly spec: ModelSpec | undefined;
    readonly faults: readonly Fault[];
    readonly sourceHash: string | undefined;
  },
  context: Context,
): Promise<void> {
  const { informers, scaler, mesh, placer, decisions, writer } = context;
  const { name, generation = 0, deletionTimestamp } = model.metadata;
  const { sight } = mesh;
  const isTold = model.status?.observedGeneration === generation;
  // What we would say of it now is only that we do not know yet.
  if (sight === "settling" && isTold && faults.length === 0) return;
  const status = planModelStatus({
    before: model.status ?? {},
    generation,
    spec,
    sourceHash,
    faults,
    hasPool: spec !== undefined && informers.pools.get(spec.pool) !== undefined,
    deleting: deletionTimestamp !== undefined,
    view: scaler.viewOf(name),
    progress: placer.progressOf(name),
    decisions: decisions.of(`model/${name}`),
    blind: sight === "outage",
    nowMs: context.wallMs(),
  });
  const written = await writer.status(modelType, model, { ...status });
  if (written) informers.models.absorb(written);
}

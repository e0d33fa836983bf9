/** What an API server cannot check: how fields and resources go together. */
import {
  type Fault,
  type ModelSource,
  type ModelSpec,
  type QuantizationJobSpec,
  type WorkerPoolSpec,
} from "../crds/mod.ts";
import { parseQuantity } from "../kube/mod.ts";
import { policyOf } from "../scaling/model_policy.ts";

/** Another Model, as far as names and pools may clash. */
export interface OtherModel {
  readonly name: string;
  readonly createdMs: number;
  readonly aliases: readonly string[];
  readonly pool: string;
}

export interface ModelSurroundings {
  readonly name: string;
  readonly createdMs: number;
  /** `undefined`: there is no such pool (yet). */
  readonly pool: Pick<WorkerPoolSpec, "role" | "sharing"> | undefined;
  readonly prefillPool: Pick<WorkerPoolSpec, "role" | "sharing"> | undefined;
  /** All Models; asked only where names may clash. */
  readonly others: () => readonly OtherModel[];
}

export function checkModel(
  spec: ModelSpec,
  { name, createdMs, pool, prefillPool, others }: ModelSurroundings,
): Fault[] {
  const faults = sourceFaults(spec.source, "spec.source");
  for (const [index, { source }] of (spec.adapters ?? []).entries()) {
    faults.push(...sourceFaults(source, `spec.adapters[${index}].source`));
  }
  if (pool && pool.role !== "decode") {
    faults.push({
      field: "spec.pool",
      expected: "a WorkerPool with role decode",
      found: `"${spec.pool}", whose role is ${pool.role}`,
    });
  }
  if (prefillPool && prefillPool.role !== "prefill") {
    faults.push({
      field: "spec.prefillPool",
      expected: "a WorkerPool with role prefill",
      found: `"${spec.prefillPool}", whose role is ${prefillPool.role}`,
    });
  }
  if (spec.draft?.model === name) {
    faults.push({
      field: "spec.draft.model",
      expected: "another Model",
      found: "the Model itself",
    });
  }
  const policy = policyOf(spec);
  if (policy.kind === "invalid") faults.push(...policy.faults);
  const mayClash = spec.aliases?.length || pool?.sharing === "dedicated";
  if (!mayClash) return faults;
  const all = others();
  const older = all.filter((other) =>
    other.name !== name && isOlder(other, { name, createdMs })
  );
  faults.push(...nameFaults(spec, older, all, name));
  const rival = pool?.sharing === "dedicated"
    ? older.find((other) => other.pool === spec.pool)
    : undefined;
  if (rival) {
    faults.push({
      field: "spec.pool",
      expected: "a pool that is shared or has no other Model",
      found: `"${spec.pool}", which is dedicated to "${rival.name}"`,
    });
  }
  return faults;
}

/** Names are first come, first served; a Model's own name beats any alias. */
function nameFaults(
  { aliases = [] }: ModelSpec,
  older: readonly OtherModel[],
  others: readonly OtherModel[],
  name: string,
): Fault[] {
  return aliases.flatMap((alias, index) => {
    const owner = others.find((other) =>
      other.name === alias && alias !== name
    ) ??
      older.find((other) => other.aliases.includes(alias));
    const own = alias === name;
    if (!owner && !own) return [];
    return [{
      field: `spec.aliases[${index}]`,
      expected: "a name that no other Model has",
      found: own
        ? `"${alias}", the Model's own name`
        : `"${alias}", which belongs to the Model "${owner!.name}"`,
    }];
  });
}

function isOlder(
  a: { readonly name: string; readonly createdMs: number },
  b: { readonly name: string; readonly createdMs: number },
): boolean {
  return a.createdMs < b.createdMs ||
    (a.createdMs === b.createdMs && a.name < b.name);
}

function sourceFaults(
  { path, url, sha256 }: ModelSource,
  field: string,
): Fault[] {
  if ((path === undefined) === (url === undefined)) {
    return [{
      field,
      expected: "exactly one of path and url",
      found: path === undefined ? "neither" : "both",
    }];
  }
  if (url === undefined) return [];
  const faults: Fault[] = [];
  if (!URL.canParse(url)) {
    faults.push({ field: `${field}.url`, expected: "a URL", found: url });
  } else if (new URL(url).username || new URL(url).password) {
    faults.push({
      field: `${field}.url`,
      expected: "a URL without user and password (everybody can read a Model)",
      found: "one with them",
    });
  }
  if (sha256 === undefined) {
    faults.push({
      field: `${field}.sha256`,
      expected: "the file's SHA-256, for a url",
      found: "nothing",
    });
  }
  return faults;
}

/** Settings that the controller makes itself. */
const ownSettings =
  /^QUETZAL_(HOST|ADVERTISE|WORKER_ID|POD_NAME|NATS_URL|METRICS_PORT|DECODE_PORT|PREFILL_PORT|MODEL_CACHE|DRAIN_TIMEOUT|LOG_LEVEL|THREADS|KV_BLOCKS|BATCH_TOKENS|RUNNING_MAX|WAITING_MAX|ISA|MODEL_MEMORY_BYTES|MODELS)$/;

export function checkWorkerPool(name: string, spec: WorkerPoolSpec): Fault[] {
  const faults: Fault[] = [];
  const { scaling, storage, resources, runtime, rollout } = spec;
  if (!/^[a-z]([-a-z0-9]{0,38}[a-z0-9])?$/.test(name)) {
    faults.push({
      field: "metadata.name",
      expected:
        "up to 40 lower-case letters, digits and -, beginning with a letter (it names a Service)",
      found: `"${name}"`,
    });
  }
  if (scaling.replicasMax < scaling.replicasMin) {
    faults.push({
      field: "spec.scaling.replicasMax",
      expected: `at least replicasMin, which is ${scaling.replicasMin}`,
      found: `${scaling.replicasMax}`,
    });
  }
  for (const key of ["models", "cache"] as const) {
    const volume = storage[key];
    const given = volume &&
      [volume.claimName, volume.hostPath].filter((field) => field).length;
    if (given === 2) {
      faults.push({
        field: `spec.storage.${key}`,
        expected: "at most one of claimName and hostPath",
        found: "both",
      });
    }
  }
  for (const [resource, request] of Object.entries(resources.requests)) {
    const limit = resources.limits[resource];
    if (limit === undefined) continue;
    if ((parseQuantity(request) ?? 0) > (parseQuantity(limit) ?? 0)) {
      faults.push({
        field: `spec.resources.requests.${resource}`,
        expected: `at most the limit, which is ${limit}`,
        found: `${request}`,
      });
    }
  }
  for (const key of Object.keys(runtime.env ?? {})) {
    if (ownSettings.test(key)) {
      faults.push({
        field: `spec.runtime.env.${key}`,
        expected: "a variable that the controller does not set itself",
        found: key,
      });
    }
    if (!/^[A-Za-z_][A-Za-z0-9_]*$/.test(key)) {
      faults.push({
        field: `spec.runtime.env.${key}`,
        expected: "a name of letters, digits and _",
        found: `"${key}"`,
      });
    }
  }
  if (isZero(rollout.maxSurge) && isZero(rollout.maxUnavailable)) {
    faults.push({
      field: "spec.rollout",
      expected:
        "maxSurge or maxUnavailable above 0, or no pod could be replaced",
      found: "both 0",
    });
  }
  return faults;
}

function isZero(value: string | number): boolean {
  return parseFloat(`${value}`) === 0;
}

export function checkQuantizationJob(spec: QuantizationJobSpec): Fault[] {
  return sourceFaults(spec.source, "spec.source");
}

import { decodeToken, encodeToken } from "./tokens.ts";
import type { WorkerRole } from "./types.ts";

/** Every subject of the mesh; model names and worker ids are escaped, see tokens.ts. */
export const subjects = {
  kv: (model: string, workerId: string) =>
    `mesh.kv.${encodeToken(model)}.${encodeToken(workerId)}`,
  kvAll: "mesh.kv.*.*",
  kvDump: (workerId: string) => `mesh.kvdump.${encodeToken(workerId)}`,
  traffic: (model: string) => `mesh.traffic.${encodeToken(model)}`,
  trafficAll: "mesh.traffic.*",
  wake: (model: string) => `mesh.wake.${encodeToken(model)}`,
  wakeAll: "mesh.wake.*",
};

/** Bucket of the worker records, and the key of one of them. */
export const workersBucket = "workers";
/** The subjects the bucket stores: this and the key. */
export const workersPrefix = `$KV.${workersBucket}.`;

/** Bucket of the models to serve; a key is the model's name as one token. */
export const modelsBucket = "models";
export const modelsPrefix = `$KV.${modelsBucket}.`;

export function workerKey(role: WorkerRole, workerId: string): string {
  return `${role}.${encodeToken(workerId)}`;
}

/** `undefined` for a key that is none of ours. */
export function parseWorkerKey(
  key: string,
): { role: WorkerRole; workerId: string } | undefined {
  const [role, token = "", ...rest] = key.split(".");
  const workerId = decodeToken(token);
  if (workerId === undefined || rest.length > 0) return undefined;
  return role === "prefill" || role === "decode"
    ? { role, workerId }
    : undefined;
}

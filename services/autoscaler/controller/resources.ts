/** The kinds that the controller watches, and typed views of ours. */
import {
  apiVersion,
  type Definition,
  modelDefinition,
  type ModelSpec,
  type ModelStatus,
  quantizationJobDefinition,
  type QuantizationJobSpec,
  type QuantizationJobStatus,
  workerPoolDefinition,
  type WorkerPoolSpec,
  type WorkerPoolStatus,
} from "../crds/mod.ts";
import type { KubeObject, ResourceType } from "../kube/mod.ts";

/** `spec` is what the server holds, which is not yet what we accept. */
export interface CustomObject<Spec, Status> extends KubeObject {
  readonly spec?: Partial<Spec>;
  readonly status?: Status;
}

export type ModelObject = CustomObject<ModelSpec, ModelStatus>;
export type PoolObject = CustomObject<WorkerPoolSpec, WorkerPoolStatus>;
export type JobObject = CustomObject<
  QuantizationJobSpec,
  QuantizationJobStatus
>;

export const modelType = typeOf(modelDefinition);
export const poolType = typeOf(workerPoolDefinition);
export const jobType = typeOf(quantizationJobDefinition);

function typeOf({ kind, plural }: Definition): ResourceType {
  return { apiVersion, kind, plural };
}

/** Keeps a Model or WorkerPool until its requests have ended and its pods are gone. */
export const drainFinalizer = "quetzal.dev/drain";

export function createdMs({ metadata }: KubeObject): number {
  return Date.parse(metadata.creationTimestamp ?? "") || 0;
}

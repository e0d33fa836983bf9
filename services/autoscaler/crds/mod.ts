/** Our custom resources: one table each, from which types, CRDs and docs are made. */
import type { Definition } from "./definition.ts";
import { modelSpec, modelStatus } from "./model.ts";
import {
  quantizationJobSpec,
  quantizationJobStatus,
} from "./quantization_job.ts";
import { workerPoolSpec, workerPoolStatus } from "./worker_pool.ts";

export const modelDefinition: Definition = {
  kind: "Model",
  plural: "models",
  singular: "model",
  shortNames: ["mdl"],
  summary: "A language model that the mesh serves.",
  spec: modelSpec,
  status: modelStatus,
  columns: [
    {
      name: "State",
      type: "string",
      jsonPath: ".status.state",
      description: "Absent, Pending, Loading, Running, Asleep, Failed, Invalid",
    },
    {
      name: "Ready",
      type: "string",
      jsonPath: ".status.ready",
      description: "Workers that serve it of those wanted",
    },
    {
      name: "Pool",
      type: "string",
      jsonPath: ".spec.pool",
      description: "WorkerPool that runs it",
    },
    {
      name: "Reason",
      type: "string",
      jsonPath: ".status.reason",
      description: "Why it is in this state",
    },
    {
      name: "Cold-Start",
      type: "string",
      jsonPath: ".status.coldStart",
      description: "Duration of the last wake",
    },
    {
      name: "Last-Wake",
      type: "date",
      jsonPath: ".status.lastWakeTime",
      description: "When requests last waited for it",
    },
    {
      name: "Policy",
      type: "string",
      jsonPath: ".spec.scaling.policy",
      description: "Scaling policy",
      wide: true,
    },
    {
      name: "Format",
      type: "string",
      jsonPath: ".spec.quantization",
      description: "Quantization of the file",
      wide: true,
    },
    {
      name: "Message",
      type: "string",
      jsonPath: '.status.conditions[?(@.type=="Ready")].message',
      description: "What the controller says about it",
      wide: true,
    },
  ],
};

export const workerPoolDefinition: Definition = {
  kind: "WorkerPool",
  plural: "workerpools",
  singular: "workerpool",
  shortNames: ["wp"],
  summary: "Pods of one kind that run models.",
  spec: workerPoolSpec,
  status: workerPoolStatus,
  scale: {
    specReplicasPath: ".spec.replicas",
    statusReplicasPath: ".status.replicas",
    labelSelectorPath: ".status.selector",
  },
  columns: [
    {
      name: "Role",
      type: "string",
      jsonPath: ".spec.role",
      description: "decode or prefill",
    },
    {
      name: "Ready",
      type: "string",
      jsonPath: ".status.ready",
      description: "Ready pods of those wanted",
    },
    {
      name: "Joined",
      type: "integer",
      jsonPath: ".status.joined",
      description: "Workers registered in NATS",
    },
    {
      name: "Models",
      type: "integer",
      jsonPath: ".status.models",
      description: "Models that name this pool",
    },
    {
      name: "Reason",
      type: "string",
      jsonPath: ".status.reason",
      description: "Why this many pods",
    },
    {
      name: "Min",
      type: "integer",
      jsonPath: ".spec.scaling.replicasMin",
      description: "Pods at least",
      wide: true,
    },
    {
      name: "Max",
      type: "integer",
      jsonPath: ".spec.scaling.replicasMax",
      description: "Pods at most",
      wide: true,
    },
    {
      name: "Message",
      type: "string",
      jsonPath: '.status.conditions[?(@.type=="Ready")].message',
      description: "What the controller says about it",
      wide: true,
    },
  ],
};

export const quantizationJobDefinition: Definition = {
  kind: "QuantizationJob",
  plural: "quantizationjobs",
  singular: "quantizationjob",
  shortNames: ["qj"],
  summary: "One conversion of a model file to another format.",
  spec: quantizationJobSpec,
  status: quantizationJobStatus,
  columns: [
    {
      name: "State",
      type: "string",
      jsonPath: ".status.state",
      description: "How far the job is",
    },
    {
      name: "Format",
      type: "string",
      jsonPath: ".spec.format",
      description: "What the weights become",
    },
    {
      name: "Progress",
      type: "string",
      jsonPath: ".status.progress",
      description: "Share that is done",
    },
    {
      name: "Reason",
      type: "string",
      jsonPath: ".status.reason",
      description: "Why",
    },
  ],
};

export const definitions = [
  modelDefinition,
  workerPoolDefinition,
  quantizationJobDefinition,
] as const;

export {
  apiVersion,
  type Definition,
  group,
  toCrd,
  version,
} from "./definition.ts";
export type { Condition, DecisionRecord, ModelSource } from "./fragments.ts";
export {
  type ModelPod,
  type ModelSpec,
  modelSpec,
  modelStates,
  type ModelStatus,
} from "./model.ts";
export { type Fault, faultText, parse, type Parsed } from "./parse.ts";
export {
  type QuantizationJobSpec,
  quantizationJobSpec,
  type QuantizationJobStatus,
} from "./quantization_job.ts";
export {
  type WorkerPoolSpec,
  workerPoolSpec,
  type WorkerPoolStatus,
} from "./worker_pool.ts";

/** What a controller needs of Kubernetes; only this folder speaks to the API server. */
export { Applier, type ApplyOutcome, type FieldConflict } from "./apply.ts";
export { backoffMs } from "./backoff.ts";
export { type EventNote, EventRecorder } from "./events.ts";
export { Informer, type InformerNote } from "./informer.ts";
export {
  boundTo,
  createKubeClient,
  type KubeClient,
  type KubeRequest,
} from "./kube_client.ts";
export { KubeError } from "./kube_error.ts";
export { LeaderElection, type LeaderNote } from "./leader.ts";
export {
  type KubeObject,
  type ObjectMeta,
  type OwnerReference,
  pathOf,
  type ResourceType,
  resourceTypes,
} from "./objects.ts";
export { parseQuantity } from "./quantity.ts";
export { hashOf, stableJson } from "./stable_json.ts";
export { WorkQueue } from "./work_queue.ts";

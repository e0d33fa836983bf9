/** A real Kubernetes for tests and for trying things out; see `main.ts` for the command. */
export {
  type ControlPlane,
  type ControlPlanePart,
} from "./control/control_plane.ts";
export {
  type Cluster,
  type ControlClusterOptions,
  startControlCluster,
} from "./control_cluster.ts";
export { type Kubectl, KubectlError, type KubectlOptions } from "./kubectl.ts";
export { type ClusterPrograms } from "./kubernetes/programs.ts";
export {
  type NodeCluster,
  type NodeClusterOptions,
  startNodeCluster,
} from "./node_cluster.ts";
export { addresses } from "./node/addresses.ts";
export { nodeObstacles } from "./node/obstacles.ts";
export { nodeLeftovers } from "./node/leftovers.ts";

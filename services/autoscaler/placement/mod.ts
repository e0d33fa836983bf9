/** Many models on few GPUs: which worker holds what, and how many workers there are. */
export {
  chooseWorker,
  type LoadRequest,
  type Placement,
  type PlacementConfig,
  placementDefaults,
  type WakeMsOf,
} from "./choose_worker.ts";
export {
  type ModelDemand,
  type PlacementAction,
  type PlacementPlan,
  placeModels,
} from "./place_models.ts";
export {
  emptyPool,
  planPool,
  type PoolConfig,
  poolDefaults,
  type PoolDemand,
  type PoolPlan,
  type PoolSeen,
  type PoolState,
} from "./plan_pool.ts";
export {
  type NodeView,
  type ResidentView,
  sourceFor,
  type WeightsSource,
  type WorkerView,
} from "./worker_view.ts";

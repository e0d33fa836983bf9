/** A worker of a shared pool as placement sees it; the caller's own objects may implement it. */
export interface WorkerView {
  readonly id: number;
  /** Workers of one node share its host-memory and disk caches. */
  readonly node: NodeView;
  readonly ready: boolean;
  readonly draining: boolean;
  /** The only model it may take; absent on a shared worker. */
  readonly dedicatedTo: number | undefined;
  readonly weightsBytesMax: number;
  readonly weightsBytes: number;
  readonly residents: ReadonlyMap<number, ResidentView>;
  /** Requests running or queued on it, all models together. */
  readonly sequences: number;
  /** When the loads it was given so far will be done. */
  readonly loadingUntilMs: number;
}

export interface NodeView {
  readonly id: number;
  readonly hostModels: { has(model: number): boolean };
  readonly diskModels: { has(model: number): boolean };
}

export interface ResidentView {
  readonly model: number;
  readonly weightsBytes: number;
  readonly loading: boolean;
  readonly sequences: number;
  readonly lastUsedMs: number;
  /** Wanted here by the last decision; others may be put out when idle. */
  readonly wanted: boolean;
}

export type WeightsSource = "host" | "disk" | "network";

/** The nearest copy of a model's weights for a worker. */
export function sourceFor(worker: WorkerView, model: number): WeightsSource {
  if (worker.node.hostModels.has(model)) return "host";
  return worker.node.diskModels.has(model) ? "disk" : "network";
}

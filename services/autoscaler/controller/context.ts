import type { Tracer } from "@opentelemetry/api";
import type { Logger } from "../../../lib/telemetry/mod.ts";
import type { DecisionRecord } from "../crds/mod.ts";
import type {
  Applier,
  EventNote,
  FieldConflict,
  Informer,
  KubeClient,
  KubeObject,
} from "../kube/mod.ts";
import type { MeshView } from "../mesh/mesh_view.ts";
import type { ControllerMetrics } from "../metrics.ts";
import type { Scaler } from "../scaling/scaler.ts";
import { addDecision } from "../status/decision_log.ts";
import type {
  PoolWorkload,
  WorkloadDefaults,
} from "../workload/plan_pool_workload.ts";
import type { DrainClock } from "./drain_clock.ts";
import type { Placer } from "./placer.ts";
import type { PodIndex, PodObject } from "./pod_index.ts";
import type { JobObject, ModelObject, PoolObject } from "./resources.ts";
import type { Writer } from "./writer.ts";

/** What a reconcile works with. */
export interface Context {
  readonly namespace: string;
  readonly client: KubeClient;
  readonly informers: Informers;
  readonly applier: Applier;
  readonly writer: Writer;
  readonly scaler: Scaler;
  readonly placer: Placer;
  readonly mesh: MeshView;
  readonly pods: PodIndex;
  readonly decisions: DecisionLogs;
  readonly drains: DrainClock;
  /** Fields left to others, by pool and plural, as of the last apply of each object. */
  readonly conflicts: Map<string, Map<string, readonly FieldConflict[]>>;
  /** Objects whose spec was refused, by key. */
  readonly invalid: Set<string>;
  readonly defaults: WorkloadDefaults;
  readonly disruptionApi: PoolWorkload["disruptionApi"];
  readonly metrics: ControllerMetrics;
  readonly tracer: Tracer;
  readonly log: Logger;
  readonly event: (note: EventNote) => void;
  /** Wall clock, for dates. */
  readonly wallMs: () => number;
  readonly nowMs: () => number;
}

export interface Informers {
  readonly models: Informer<ModelObject>;
  readonly pools: Informer<PoolObject>;
  readonly jobs: Informer<JobObject>;
  readonly pods: Informer<PodObject>;
  /** The pools' objects, by plural. */
  readonly owned: ReadonlyMap<string, Informer<KubeObject>>;
}

/** The last decisions of each object; what an earlier leader wrote is taken over. */
export class DecisionLogs {
  readonly #logs = new Map<string, readonly DecisionRecord[]>();

  add(
    key: string,
    before: readonly DecisionRecord[],
    decision: Omit<DecisionRecord, "time">,
    nowMs: number,
  ): void {
    const log = this.#logs.get(key) ?? before;
    this.#logs.set(key, addDecision(log, decision, nowMs));
  }

  of(key: string): readonly DecisionRecord[] {
    return this.#logs.get(key) ?? [];
  }

  delete(key: string): void {
    this.#logs.delete(key);
  }
}

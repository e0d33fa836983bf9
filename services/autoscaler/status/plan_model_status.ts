import type { WorkerModel, WorkerRecord } from "../../../lib/bus/types.ts";
import {
  type DecisionRecord,
  type Fault,
  faultText,
  type ModelPod,
  type ModelSpec,
  type ModelStatus,
} from "../crds/mod.ts";
import type { ModelView } from "../scaling/model_view.ts";
import { type Judgement, secondOf, withJudgements } from "./conditions.ts";

export interface ModelFacts {
  readonly before: ModelStatus;
  readonly generation: number;
  readonly spec: ModelSpec | undefined;
  readonly sourceHash: string | undefined;
  readonly faults: readonly Fault[];
  /** Whether the pool that the Model names is there. */
  readonly hasPool: boolean;
  readonly deleting: boolean;
  readonly view: ModelView | undefined;
  /** Progress of calls under way, by worker. */
  readonly progress: ReadonlyMap<string, number>;
  readonly decisions: readonly DecisionRecord[];
  readonly blind: boolean;
  readonly nowMs: number;
}

interface Verdict {
  readonly state: NonNullable<ModelStatus["state"]>;
  readonly ready: boolean | "Unknown";
  readonly reason: string;
  readonly message: string;
}

const podsMax = 20;

/** The status of a Model. Equal facts give an equal status: nothing is written twice. */
export function planModelStatus(facts: ModelFacts): ModelStatus {
  const { before, generation, view, decisions } = facts;
  const verdict = judge(facts);
  const served = view?.now.ready ?? 0;
  const wanted = Math.max(0, view?.copies ?? 0);
  const wake = view?.lastWake;
  const weightBytes = view?.weightBytes || before.weightBytes;
  return given({
    observedGeneration: generation,
    state: verdict.state,
    ready: `${served}/${Math.max(wanted, served)}`,
    reason: verdict.reason,
    wanted,
    served,
    lastWakeTime: wake ? secondOf(wake.atMs) : before.lastWakeTime,
    coldStart: wake?.tookMs !== undefined
      ? `${(wake.tookMs / 1_000).toFixed(1)}s`
      : before.coldStart,
    weightBytes,
    sourceHash: facts.faults.length === 0
      ? facts.sourceHash
      : before.sourceHash,
    pods: podsOf(facts),
    decisions: decisions.length > 0 ? decisions : before.decisions,
    conditions: withJudgements(
      before.conditions ?? [],
      [
        {
          type: "Ready",
          status: verdict.ready,
          reason: verdict.reason,
          message: verdict.message,
        },
        ...adapterJudgement(facts),
      ],
      { nowMs: facts.nowMs, generation },
    ),
  });
}

function judge(facts: ModelFacts): Verdict {
  const { spec, faults, hasPool, deleting, view, blind } = facts;
  if (deleting) {
    return no("Deleting", "Deleting", "Running requests end, then it goes");
  }
  if (faults.length > 0 || !spec) {
    return no("Invalid", "InvalidSpec", faults.map(faultText).join("; "));
  }
  if (!hasPool) {
    return no("Pending", "NoPool", `There is no WorkerPool "${spec.pool}"`);
  }
  if (!view) return no("Absent", "Unseen", "Not looked at yet");
  if (view.now.ready > 0) {
    return {
      state: "Running",
      ready: true,
      reason: (facts.decisions[0] ?? facts.before.decisions?.[0])?.reason ??
        "Serving",
      message: `Served by ${view.now.ready} worker(s), ${view.copies} wanted`,
    };
  }
  const states = statesOf(view);
  if (states.has("loading") || states.has("waking")) {
    return no("Loading", "Loading", "A worker loads it");
  }
  if (view.failure) {
    const { workerId, message, attempts } = view.failure;
    return no(
      "Failed",
      "LoadFailed",
      `${workerId}: ${message} (attempt ${attempts})`,
    );
  }
  if (blind) {
    return {
      state: facts.before.state ?? "Absent",
      ready: "Unknown",
      reason: "SignalsStale",
      message: "NATS is away; nothing is decided until it is back",
    };
  }
  if (view.copies > 0) return pending(view);
  if (states.has("asleep")) {
    return no("Asleep", "Idle", "Asleep until somebody asks for it");
  }
  return no("Absent", "Idle", "On no worker until somebody asks for it");
}

function pending({ unplaced, copies }: ModelView): Verdict {
  return unplaced
    ? no(
      "Pending",
      "NoRoom",
      `Wanted on ${copies} worker(s); none has room yet`,
    )
    : no(
      "Pending",
      "WaitingForWorker",
      `Wanted on ${copies} worker(s); none is ready yet`,
    );
}

function no(state: Verdict["state"], reason: string, message: string): Verdict {
  return { state, ready: false, reason, message };
}

function statesOf(view: ModelView): Set<WorkerModel["state"]> {
  return new Set(
    view.workers.flatMap(({ models, role }) => role === "decode" ? models : [])
      .filter(({ model }) => model === view.model)
      .map(({ state }) => state),
  );
}

function podsOf({ view, progress }: ModelFacts): ModelPod[] | undefined {
  if (!view || view.workers.length === 0) return undefined;
  return view.workers
    .toSorted((a, b) => podOf(a) < podOf(b) ? -1 : 1)
    .slice(0, podsMax)
    .map((worker) => {
      const own = worker.models.find(({ model }) => model === view.model)!;
      const share = progress.get(worker.workerId);
      const isFailed = view.failure?.workerId === worker.workerId;
      return given({
        pod: podOf(worker),
        state: own.state,
        progress: own.state === "loading" && share !== undefined
          ? `${Math.floor(share * 100)}%`
          : undefined,
        error: isFailed ? view.failure?.message.slice(0, 1_024) : undefined,
      });
    });
}

function podOf({ podName, workerId }: WorkerRecord): string {
  return podName ?? workerId;
}

function adapterJudgement({ spec }: ModelFacts): Judgement[] {
  if (!spec?.adapters?.length) return [];
  return [{
    type: "AdaptersReady",
    status: false,
    reason: "NotSupported",
    message: `Workers of this version load no adapters; ${
      spec.adapters.map(({ name }) => name).join(", ")
    } cannot be asked for`,
  }];
}

function given<T extends Record<string, unknown>>(fields: T): T {
  return Object.fromEntries(
    Object.entries(fields).filter(([, value]) => value !== undefined),
  ) as T;
}

import {
  type DecisionRecord,
  type Fault,
  faultText,
  type WorkerPoolStatus,
} from "../crds/mod.ts";
import type { FieldConflict, KubeObject } from "../kube/mod.ts";
import { poolLabel } from "../workload/names.ts";
import { type Judgement, withJudgements } from "./conditions.ts";

export interface PoolFacts {
  readonly name: string;
  readonly before: WorkerPoolStatus;
  readonly generation: number;
  readonly faults: readonly Fault[];
  readonly deleting: boolean;
  readonly wanted: number;
  /** Why this many, from the last decision. */
  readonly reason: string;
  readonly deployment: KubeObject | undefined;
  readonly conflicts: readonly FieldConflict[];
  readonly joined: number;
  readonly models: number;
  readonly decisions: readonly DecisionRecord[];
  readonly blind: boolean;
  readonly nowMs: number;
}

/** The status of a WorkerPool. Equal facts give an equal status. */
export function planPoolStatus(facts: PoolFacts): WorkerPoolStatus {
  const { before, generation, decisions, wanted } = facts;
  const { replicas, readyReplicas } = countsOf(facts.deployment);
  const ready = readyJudgement(facts, readyReplicas);
  return {
    observedGeneration: generation,
    wanted,
    replicas,
    readyReplicas,
    joined: facts.joined,
    ready: `${readyReplicas}/${wanted}`,
    models: facts.models,
    reason: ready.status === true ? facts.reason : ready.reason,
    selector: `${poolLabel}=${facts.name}`,
    decisions: decisions.length > 0 ? decisions : before.decisions ?? [],
    conditions: withJudgements(
      before.conditions ?? [],
      [ready, appliedJudgement(facts), freshJudgement(facts)],
      { nowMs: facts.nowMs, generation },
    ),
  };
}

function readyJudgement(facts: PoolFacts, readyReplicas: number): Judgement {
  const { faults, deleting, wanted } = facts;
  const no = (reason: string, message: string) => ({
    type: "Ready",
    status: false,
    reason,
    message,
  });
  if (deleting) return no("Deleting", "Its pods drain, then it goes");
  if (faults.length > 0) {
    return no("InvalidSpec", faults.map(faultText).join("; "));
  }
  const stuck = stuckReason(facts.deployment);
  if (readyReplicas < wanted) {
    return no(
      stuck ? "Stuck" : "Starting",
      stuck ?? `${readyReplicas} of ${wanted} pods are ready`,
    );
  }
  return {
    type: "Ready",
    status: true,
    reason: "PodsReady",
    message: `${readyReplicas} of ${wanted} pods are ready`,
  };
}

/** A user's field survives; this says so, and how to give it back. */
function appliedJudgement({ conflicts, faults }: PoolFacts): Judgement {
  if (faults.length > 0) {
    return {
      type: "Applied",
      status: false,
      reason: "InvalidSpec",
      message: "Nothing is applied until the spec is valid",
    };
  }
  if (conflicts.length === 0) {
    return {
      type: "Applied",
      status: true,
      reason: "Applied",
      message: "The pool's objects are as wanted",
    };
  }
  const fields = conflicts.map(({ field, manager }) => `${field} (${manager})`);
  return {
    type: "Applied",
    status: false,
    reason: "FieldConflict",
    message: `Left to others who own them: ${
      fields.join(", ")
    }. Remove them there to let the controller decide`,
  };
}

function freshJudgement({ blind }: PoolFacts): Judgement {
  return {
    type: "SignalsFresh",
    status: !blind,
    reason: blind ? "NatsUnreachable" : "Reported",
    message: blind
      ? "NATS is away; the number of pods stays as it is"
      : "Workers and routers report over NATS",
  };
}

interface DeploymentStatus {
  readonly replicas?: number;
  readonly readyReplicas?: number;
  readonly conditions?: readonly {
    readonly type: string;
    readonly status: string;
    readonly message?: string;
  }[];
}

function countsOf(deployment: KubeObject | undefined) {
  const { replicas = 0, readyReplicas = 0 } = statusOf(deployment);
  return { replicas, readyReplicas };
}

function stuckReason(deployment: KubeObject | undefined): string | undefined {
  const { conditions = [] } = statusOf(deployment);
  const failed = conditions.find(({ type, status }) =>
    (type === "Progressing" && status === "False") ||
    (type === "ReplicaFailure" && status === "True")
  );
  return failed?.message;
}

function statusOf(deployment: KubeObject | undefined): DeploymentStatus {
  return (deployment?.status ?? {}) as DeploymentStatus;
}

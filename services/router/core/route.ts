import { blockHashes, blockTokens } from "../../../lib/engine/block_hash.ts";
import type { WorkerModel, WorkerRole } from "../../../lib/bus/types.ts";
import { type Candidate, policies, type PolicyName } from "../policies/mod.ts";
import type { KvIndex } from "../workers/kv_index.ts";
import type { Worker, WorkerTable } from "../workers/worker_table.ts";

/** What must be placed. */
export interface RouteRequest {
  readonly model: string;
  /** "generate" unless set. */
  readonly task?: RouteTask;
  /** Sequences that it is on its worker; 1 unless set. */
  readonly sequenceCount?: number;
  /** Prompt and what was emitted so far: all that needs KV. */
  readonly tokenIds: Int32Array;
  /** Tokens that must fit into the worker's context. */
  readonly contextNeeded: number;
  /** Filled on first use: block names by model fingerprint. */
  readonly hashes: Map<string, readonly string[]>;
}

export type RouteTask = "generate" | "embed";

/** Who can run it, the preferred role first: prompts keep nobody waiting on a prefill worker. */
const rolesOf: Readonly<Record<RouteTask, readonly WorkerRole[]>> = {
  generate: ["decode"],
  embed: ["prefill", "decode"],
};

/** Live workers that can run the request, by role. */
export function capable(
  { model, task = "generate" }: Pick<RouteRequest, "model" | "task">,
  workers: WorkerTable,
): Worker[][] {
  return rolesOf[task].map((role) => workers.serving(role, model));
}

/** The outcome of filter, score, pick. */
export type RouteOutcome =
  | { readonly kind: "placed"; readonly placement: Placement }
  /** Workers serve the model and all of them are at their cap or distrusted. */
  | { readonly kind: "busy" }
  /** No worker serves the model. */
  | { readonly kind: "absent" }
  /** Workers serve it, none with a context this long. */
  | { readonly kind: "too-long"; readonly contextLength: number };

export interface Placement {
  /** Runs the sequence: a decode worker, or either role for an embedding. */
  readonly worker: Worker;
  /** Absent: that worker computes the prompt itself. */
  readonly prefill: Worker | undefined;
  readonly decision: RouteDecision;
}

/** For the trace: everything the choice was made from. */
export interface RouteDecision {
  readonly policy: string;
  readonly decode: readonly ScoredCandidate[];
  readonly prefill: readonly ScoredCandidate[];
  readonly uncachedTokens: number;
  readonly prefillReason:
    | "prefill worker"
    | "short prompt"
    | "idle decode worker"
    | "no prefill worker";
}

export type ScoredCandidate = Candidate & { readonly score: number };

export interface RouteOptions {
  readonly workers: WorkerTable;
  readonly kvIndex: KvIndex;
  readonly policy: PolicyName;
  /** Sequences this router puts on one worker at once. */
  readonly sequencesMax: number;
  /** Prompts with fewer uncached tokens are computed by the decode worker. */
  readonly prefillTokensMin: number;
  /**
   * The same for a decode worker that has nothing else to do: a prompt that keeps
   * nobody waiting is there sooner without the hand-over.
   */
  readonly prefillIdleTokensMin: number;
  /** In [0, 1); breaks ties. */
  readonly random: () => number;
}

/** Chooses the worker, and for a generation the prefill worker, from what is known now. */
export function route(
  request: RouteRequest,
  options: RouteOptions,
): RouteOutcome {
  const { model, contextNeeded } = request;
  const byRole = capable(request, options.workers);
  const serving = byRole.flat();
  if (serving.length === 0) return { kind: "absent" };
  const contextLength = Math.max(
    ...serving.map((worker) => contextOf(worker, model)),
  );
  if (contextLength < contextNeeded) return { kind: "too-long", contextLength };
  const free = byRole.map((workers) =>
    workers.filter((worker) =>
      contextOf(worker, model) >= contextNeeded && worker.trusted &&
      worker.inFlight < options.sequencesMax
    )
  ).find(({ length }) => length > 0);
  if (free === undefined) return { kind: "busy" };

  const choice = choose(free, request, options);
  const placement = request.task === "embed"
    ? placeAlone(choice, request, options)
    : placeDecode(choice, request, options);
  return { kind: "placed", placement };
}

/** The decode worker is chosen; for a long prompt a prefill worker joins it. */
function placeDecode(
  { worker, chosen, scored }: Choice,
  request: RouteRequest,
  options: RouteOptions,
): Placement {
  const uncachedTokens = request.tokenIds.length - chosen.matchedTokens;
  const prefill = choosePrefill(
    { uncachedTokens, decode: worker },
    request,
    options,
  );
  return {
    worker,
    prefill: prefill.worker,
    decision: {
      policy: options.policy,
      decode: scored,
      prefill: prefill.scored,
      uncachedTokens,
      prefillReason: prefill.reason,
    },
  };
}

/** Nothing is handed over: one worker, whatever its role, does it all. */
function placeAlone(
  { worker, chosen, scored }: Choice,
  { tokenIds }: RouteRequest,
  { policy }: RouteOptions,
): Placement {
  const isPrefill = worker.record.role === "prefill";
  return {
    worker,
    prefill: undefined,
    decision: {
      policy,
      decode: isPrefill ? [] : scored,
      prefill: isPrefill ? scored : [],
      uncachedTokens: tokenIds.length - chosen.matchedTokens,
      prefillReason: isPrefill ? "prefill worker" : "no prefill worker",
    },
  };
}

function choosePrefill(
  { uncachedTokens, decode }: { uncachedTokens: number; decode: Worker },
  request: RouteRequest,
  options: RouteOptions,
): {
  worker: Worker | undefined;
  scored: readonly ScoredCandidate[];
  reason: RouteDecision["prefillReason"];
} {
  if (uncachedTokens < options.prefillTokensMin) {
    return { worker: undefined, scored: [], reason: "short prompt" };
  }
  if (uncachedTokens < options.prefillIdleTokensMin && decode.idle) {
    return { worker: undefined, scored: [], reason: "idle decode worker" };
  }
  const workers = options.workers.serving("prefill", request.model)
    .filter((worker) => worker.trusted);
  if (workers.length === 0) {
    return { worker: undefined, scored: [], reason: "no prefill worker" };
  }
  const { worker, scored } = choose(workers, request, options);
  return { worker, scored, reason: "prefill worker" };
}

interface Choice {
  readonly worker: Worker;
  readonly chosen: ScoredCandidate;
  readonly scored: readonly ScoredCandidate[];
}

function choose(
  workers: readonly Worker[],
  request: RouteRequest,
  { kvIndex, policy, random }: RouteOptions,
): Choice {
  const candidates = workers.map((worker) =>
    candidateOf(worker, request, kvIndex)
  );
  const scores = policies[policy](candidates, {
    promptTokens: request.tokenIds.length,
  });
  const scored = candidates.map((candidate, i) => ({
    ...candidate,
    score: scores[i],
  }));
  const index = pick(scores, random);
  return { worker: workers[index], chosen: scored[index], scored };
}

/** Index of the best score; among equals any, so that routers do not all choose the first. */
export function pick(scores: readonly number[], random: () => number): number {
  const best = Math.max(...scores);
  const equals = scores.flatMap((score, index) =>
    score === best ? [index] : []
  );
  return equals[Math.floor(random() * equals.length)];
}

function candidateOf(
  worker: Worker,
  request: RouteRequest,
  kvIndex: KvIndex,
): Candidate {
  const { model } = request;
  const served = worker.served(model)!;
  const { workerId } = worker.record;
  const matched = kvIndex.matchedBlocks(
    workerId,
    model,
    hashesOf(request, served),
  );
  return {
    workerId,
    load: worker.load(model),
    blocksFree: served.blocksFree,
    blocksTotal: served.blocksTotal,
    matchedTokens: matched * blockTokens,
  };
}

/** Workers name blocks from their model's fingerprint on; usually all have the same one. */
function hashesOf(
  request: RouteRequest,
  { fingerprint }: WorkerModel,
): readonly string[] {
  let hashes = request.hashes.get(fingerprint);
  if (hashes === undefined) {
    hashes = blockHashes(fingerprint, request.tokenIds);
    request.hashes.set(fingerprint, hashes);
  }
  return hashes;
}

function contextOf(worker: Worker, model: string): number {
  return worker.served(model)?.contextLength ?? 0;
}

/**
 * How long the first token takes, and how much of a GPU a request costs, from
 * rates the workers measure (`WorkerModel.prefillTokensPerS`, step times) and
 * from measured loads.
 */
export interface ModelCost {
  readonly weightsBytes: number;
  readonly promptTokensMean: number;
  readonly outputTokensMean: number;
  readonly prefillTokensPerS: number;
  /** One decode step of an empty batch, and what each sequence adds. */
  readonly stepMs: number;
  readonly stepMsPerSequence: number;
  /** Requests a replica runs at once. */
  readonly slots: number;
  /** A new replica that has to be scheduled and started, weights included. */
  readonly startMs: number;
  /** Loading into a worker that runs already, from each place; absent: cannot. */
  readonly wakeMs:
    | {
      readonly host: number;
      readonly disk: number;
      readonly network: number;
    }
    | undefined;
}

/** Prefill of a mean prompt on an otherwise idle worker. */
export function prefillMs(cost: ModelCost): number {
  return (cost.promptTokensMean / cost.prefillTokensPerS) * 1000;
}

/**
 * GPU milliseconds one request costs when `batch` sequences share each step:
 *
 *   prefill + outputTokens * (stepMs + batch * stepMsPerSequence) / batch
 *
 * 1,000 prompt tokens at 20,000/s, 200 output tokens, 4 ms steps: alone
 * 50 + 200 * 4.05 = 860 ms, in a batch of 16 only 50 + 200 * 0.3 = 110 ms.
 */
export function gpuMsPerRequest(cost: ModelCost, batch: number): number {
  const sharers = Math.max(1, batch);
  const step = cost.stepMs + sharers * cost.stepMsPerSequence;
  return prefillMs(cost) + (cost.outputTokensMean * step) / sharers;
}

/**
 * First token after waking from `source`, with `slack` for queues: prompts of
 * other models on the same worker halve the prefill rate.
 */
export function wakeTtftMs(
  cost: ModelCost,
  source: "host" | "disk" | "network",
): number {
  if (!cost.wakeMs) return cost.startMs + 2 * prefillMs(cost);
  return cost.wakeMs[source] + 2 * prefillMs(cost);
}

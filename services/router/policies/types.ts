/** One live worker that may take the sequence, with everything a policy may weigh. */
export interface Candidate {
  readonly workerId: string;
  /** Sequences running or waiting there, ours and other routers'. */
  readonly load: number;
  readonly blocksFree: number;
  readonly blocksTotal: number;
  /** Leading prompt tokens whose KV it holds, as far as we know. */
  readonly matchedTokens: number;
}

export interface RouteQuery {
  readonly promptTokens: number;
}

/**
 * Scores the candidates, higher is better, one number each in their order.
 * A pure function: the same input gives the same scores.
 */
export type Policy = (
  candidates: readonly Candidate[],
  query: RouteQuery,
) => readonly number[];

import { leastLoad } from "./least_load.ts";
import type { Candidate, RouteQuery } from "./types.ts";

/**
 * The worker where the request costs least, counted in prompt tokens: those it
 * has to compute, plus a share for every sequence that competes with it.
 *
 * A cached prefix saves its tokens, yet a popular one would gather all requests
 * on one worker. So when the busiest candidate is more than `imbalanceMax`
 * sequences ahead of the idlest, load alone decides until that is levelled.
 */
export function prefixAffinity(
  candidates: readonly Candidate[],
  { promptTokens }: RouteQuery,
): readonly number[] {
  const loads = candidates.map(({ load }) => load);
  if (Math.max(...loads) - Math.min(...loads) > imbalanceMax) {
    return leastLoad(candidates);
  }
  return candidates.map(({ load, matchedTokens }) =>
    -(promptTokens - matchedTokens) - load * sequenceCostTokens
  );
}

/** Sequences between the busiest and the idlest worker before affinity is set aside. */
export const imbalanceMax = 8;

/** A running sequence slows a prompt about as much as this many more tokens would. */
export const sequenceCostTokens = 32;

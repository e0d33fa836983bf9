import type { Candidate } from "./types.ts";

/**
 * The worker with the fewest sequences; between equals the one with more of its
 * KV blocks free, which counts for less than one sequence.
 */
export function leastLoad(candidates: readonly Candidate[]): readonly number[] {
  return candidates.map(({ load, blocksFree, blocksTotal }) =>
    (blocksTotal > 0 ? blocksFree / blocksTotal : 0) * 0.5 - load
  );
}

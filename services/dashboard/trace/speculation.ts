import type { ModelSpeculation, TokenStrip } from "../api_types.ts";

interface Tally {
  traces: number;
  steps: number;
  plain: number;
  accepted: number;
  corrected: number;
  tokens: number;
  positions: { reached: number; accepted: number }[];
  /** Milliseconds and tokens of steps without and with drafts. */
  plainMs: number;
  plainTokens: number;
  draftedMs: number;
  draftedTokens: number;
}

const positionsMax = 64;

/** How well drafts did, from the tokens of traces. */
export class SpeculationTally {
  readonly #models = new Map<string, Tally>();

  add(model: string, strip: TokenStrip): void {
    const tally = this.#models.get(model) ?? emptyTally();
    this.#models.set(model, tally);
    tally.traces++;
    tally.tokens += strip.count;
    for (let from = 0; from < strip.count;) {
      let to = from + 1;
      while (to < strip.count && strip.step[to] === strip.step[from]) to++;
      addStep(tally, strip, from, to);
      from = to;
    }
  }

  result(): ModelSpeculation[] {
    return [...this.#models].sort(([a], [b]) => a.localeCompare(b))
      .map(([model, tally]) => {
        const reached = tally.positions.reduce((sum, p) => sum + p.reached, 0);
        return {
          model,
          traces: tally.traces,
          steps: tally.steps,
          tokens: tally.tokens,
          plain: tally.plain,
          accepted: tally.accepted,
          corrected: tally.corrected,
          tokensPerStep: tally.steps === 0 ? null : tally.tokens / tally.steps,
          acceptance: reached === 0 ? null : tally.accepted / reached,
          drafted: reached === 0 ? null : reached,
          positions: tally.positions,
          speedup: speedup(tally),
        };
      });
  }
}

/**
 * Accepted tokens come first in their step, in the order of the draft; a corrected one shows
 * where the draft was turned down.
 */
function addStep(
  tally: Tally,
  { provenance, provenanceNames, latencyMs }: TokenStrip,
  from: number,
  to: number,
): void {
  tally.steps++;
  let position = 0;
  let isDrafted = false;
  for (let i = from; i < to; i++) {
    const kind = provenanceNames[provenance[i]];
    if (kind === "accepted") {
      tally.accepted++;
      isDrafted = true;
      positionOf(tally, position).reached++;
      positionOf(tally, position).accepted++;
      position++;
    } else if (kind === "corrected") {
      tally.corrected++;
      isDrafted = true;
      positionOf(tally, position).reached++;
    } else tally.plain++;
  }
  // The first step waits for the prompt.
  if (from === 0) return;
  if (isDrafted) {
    tally.draftedMs += latencyMs[from];
    tally.draftedTokens += to - from;
  } else {
    tally.plainMs += latencyMs[from];
    tally.plainTokens += to - from;
  }
}

function positionOf(
  { positions }: Tally,
  position: number,
): { reached: number; accepted: number } {
  const at = Math.min(position, positionsMax - 1);
  while (positions.length <= at) positions.push({ reached: 0, accepted: 0 });
  return positions[at];
}

function speedup(tally: Tally): number | null {
  const { plainMs, plainTokens, draftedMs, draftedTokens } = tally;
  if (plainTokens === 0 || draftedTokens === 0 || draftedMs === 0) return null;
  return plainMs / plainTokens / (draftedMs / draftedTokens);
}

function emptyTally(): Tally {
  return {
    traces: 0,
    steps: 0,
    plain: 0,
    accepted: 0,
    corrected: 0,
    tokens: 0,
    positions: [],
    plainMs: 0,
    plainTokens: 0,
    draftedMs: 0,
    draftedTokens: 0,
  };
}

import type { Condition } from "../crds/mod.ts";

export interface Judgement {
  readonly type: string;
  readonly status: boolean | "Unknown";
  readonly reason: string;
  readonly message: string;
}

/**
 * The conditions with the new judgements. The time of a transition changes only
 * when the status does, so that an unchanged judgement is an unchanged object.
 */
export function withJudgements(
  before: readonly Condition[],
  judgements: readonly Judgement[],
  { nowMs, generation }: { nowMs: number; generation: number },
): Condition[] {
  return judgements.map(({ type, status, reason, message }) => {
    const word = status === "Unknown" ? status : status ? "True" : "False";
    const old = before.find((condition) => condition.type === type);
    return {
      type,
      status: word,
      reason,
      message: message.slice(0, 32_768),
      lastTransitionTime: old?.status === word
        ? old.lastTransitionTime
        : secondOf(nowMs),
      observedGeneration: generation,
    };
  });
}

/** A date as the API server writes it. */
export function secondOf(ms: number): string {
  return new Date(ms).toISOString().replace(/\.\d+Z$/, "Z");
}

import type { DecisionRecord } from "../crds/mod.ts";
import { secondOf } from "./conditions.ts";

const decisionsMax = 5;

/** The last decisions of one object, newest first. */
export function addDecision(
  log: readonly DecisionRecord[],
  decision: {
    readonly what: string;
    readonly reason: string;
    readonly numbers: Readonly<Record<string, number>>;
  },
  nowMs: number,
): DecisionRecord[] {
  const numbers = Object.fromEntries(
    Object.entries(decision.numbers)
      // JSON has no infinity; three digits are what a person reads.
      .filter(([, value]) => Number.isFinite(value))
      .map(([name, value]) => [name, Number(value.toPrecision(4))]),
  );
  return [{ ...decision, numbers, time: secondOf(nowMs) }, ...log]
    .slice(0, decisionsMax);
}

/**
 * Which rows a step can compute before the tokens of the running step are known.
 *
 * While step n runs, all about step n + 1 is known but its token ids, and a GPU takes
 * these from its own memory. So the step is queued now, and the GPU need not wait for
 * the host between the two. A sequence that turns out to have ended in step n has one
 * row too many in step n + 1; its result is dropped.
 *
 * Why blocks are safe: nothing is admitted while a step is queued ahead, so the host
 * writes to no block meanwhile; and the device runs steps one after another, so what a
 * later step writes to a block that was given back comes after all that this one did.
 */
import type { Scheduler } from "./scheduler.ts";
import { StepPlan } from "./scheduler.ts";
import type { Sequence } from "./sequence.ts";

/**
 * The step behind `running`, or `undefined` when it must wait for the tokens: because
 * somebody joins, leaves, computes its prompt or has penalties, or blocks are short.
 */
export function planAhead(
  running: StepPlan,
  { scheduler, contextLength }: {
    readonly scheduler: Scheduler;
    readonly contextLength: number;
  },
): StepPlan | undefined {
  if (scheduler.mayAdmit) return undefined;
  const plan = new StepPlan();
  let goingOn = 0;
  for (const [outRow, sequence] of running.sequences.entries()) {
    if (sequence.phase !== "running") continue;
    if (!decodesAhead(sequence)) return undefined;
    goingOn++;
    if (!endsNow(sequence, contextLength)) plan.add(sequence, 1, outRow);
  }
  const others = goingOn < scheduler.runningCount;
  if (others || plan.rows === 0) return undefined;
  return scheduler.growAhead(plan.sequences) ? plan : undefined;
}

/** Its next step needs nothing of the coming token but its id. */
function decodesAhead(sequence: Sequence): boolean {
  return !sequence.cancelled && sequence.pendingCount === 1 &&
    sequence.tokenCount > sequence.givenCount && !sequence.sampler.needsTokens;
}

/** The coming token is its last one, whatever it is. */
function endsNow(sequence: Sequence, contextLength: number): boolean {
  return sequence.outputCount + 1 >= sequence.spec.maxTokens ||
    sequence.tokenCount + 1 >= contextLength;
}

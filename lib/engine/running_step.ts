/** A step that native code was asked for, and how to read what it answers. */
import { type NativeModel, type StepOutput, topLogprobsMax } from "./native.ts";
import type { StepPlan } from "./scheduler.ts";
import type { Sequence } from "./sequence.ts";
import type { StepBatch } from "./step_batch.ts";
import type { EngineToken } from "./types.ts";

export interface RunningStep {
  readonly plan: StepPlan;
  /** Never rejects: a step queued ahead fails while another one is awaited. */
  readonly outcome: Promise<StepOutcome>;
}

export type StepOutcome =
  | { readonly kind: "done"; readonly output: StepOutput }
  | { readonly kind: "failed"; readonly cause: unknown };

export function startStep(
  model: NativeModel,
  batch: StepBatch,
  plan: StepPlan,
): RunningStep {
  batch.fill(plan);
  return {
    plan,
    outcome: model.step(batch).then(
      (output) => ({ kind: "done", output }),
      (cause) => ({ kind: "failed", cause }),
    ),
  };
}

const noneAsked: EngineToken["top"] = [];

/** What out row `outRow` chose for its sequence. */
export function readToken(
  output: StepOutput,
  outRow: number,
  { spec: { sampling: { topLogprobs } } }: Sequence,
): EngineToken {
  const id = output.tokens[outRow];
  if (topLogprobs === undefined) {
    return { id, logprob: undefined, top: noneAsked };
  }
  const top: { id: number; logprob: number }[] = [];
  const begin = outRow * topLogprobsMax;
  for (let i = begin; i < begin + topLogprobs && output.topIds[i] >= 0; i++) {
    top.push({ id: output.topIds[i], logprob: output.topLogprobs[i] });
  }
  return { id, logprob: output.logprobs[outRow], top };
}

/** The hidden states of a step, in the order of the rows that want theirs. */
export class HiddenRows {
  readonly #output: StepOutput;
  readonly #size: number;
  #count = 0;

  constructor(output: StepOutput, size: number) {
    this.#output = output;
    this.#size = size;
  }

  /** A copy: the step's array holds those of other requests. */
  next(): Float32Array {
    const begin = this.#count++ * this.#size;
    return this.#output.hidden!.slice(begin, begin + this.#size);
  }
}

/** How fast the steps of an engine are, by the kind of work in them. */
import { BusyRate } from "./busy_rate.ts";
import type { StepOutput } from "./native.ts";
import type { StepPlan } from "./scheduler.ts";

export class StepRates {
  readonly #prefill = new BusyRate();
  readonly #decode = new BusyRate();
  #bytesPerS: number | undefined;

  get prefillTokensPerS(): number {
    return this.#prefill.perSecond;
  }

  get decodeTokensPerS(): number {
    return this.#decode.perSecond;
  }

  /** Weights and KV that the last step read on a GPU; undefined before, and on a CPU. */
  get bytesPerS(): number | undefined {
    return this.#bytesPerS;
  }

  /** A step of both kinds is shared by its rows: native code computes them together. */
  count(plan: StepPlan, { stepUs, deviceUs, bytesRead }: StepOutput): void {
    if (deviceUs && bytesRead) this.#bytesPerS = bytesRead / deviceUs * 1e6;
    let decodeRows = 0;
    for (let i = 0; i < plan.sequences.length; i++) {
      const { tokenCount, givenCount } = plan.sequences[i];
      if (tokenCount > givenCount) decodeRows += plan.rowCounts[i];
    }
    const seconds = stepUs / 1e6;
    const share = decodeRows / plan.rows;
    if (share > 0) this.#decode.add(decodeRows, seconds * share);
    if (share < 1) {
      this.#prefill.add(plan.rows - decodeRows, seconds * (1 - share));
    }
  }
}

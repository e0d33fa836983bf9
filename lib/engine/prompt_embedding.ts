/** An `embed()` call: one prompt, and the hidden state behind its last token. */
import { greedy } from "./greedy.ts";
import type { Sequence, SequenceOwner, StepFacts } from "./sequence.ts";
import type {
  EmbedResult,
  EmbedSpec,
  EngineToken,
  SequenceSpec,
} from "./types.ts";

export class PromptEmbedding implements SequenceOwner {
  readonly wantsHidden = true;
  readonly result: Promise<EmbedResult>;
  readonly #settle = Promise.withResolvers<EmbedResult>();
  readonly #now: () => number;

  constructor({ now }: { readonly now: () => number }) {
    this.#now = now;
    this.result = this.#settle.promise;
  }

  /** Its blocks stay here, for the next prompt with that beginning. */
  progressed(): void {}

  chosen(
    sequence: Sequence,
    _token: EngineToken,
    { hidden }: StepFacts,
  ): boolean {
    const admittedMs = sequence.admittedMs ?? sequence.arrivedMs;
    this.#settle.resolve({
      values: hidden!,
      cachedTokens: sequence.cachedTokens,
      computedTokens: sequence.givenCount - sequence.cachedTokens,
      queueUs: Math.round(1000 * (admittedMs - sequence.arrivedMs)),
      computeUs: Math.round(1000 * (this.#now() - admittedMs)),
    });
    return false;
  }

  failed(reason: unknown): void {
    this.#settle.reject(reason);
  }
}

/** A sequence that ends at its first token, which nobody looks at. */
export function embedSequence(spec: EmbedSpec): SequenceSpec {
  return { ...spec, emittedIds: none, sampling: greedy, maxTokens: 1 };
}

const none = new Int32Array(0);

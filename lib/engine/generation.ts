/** A `run()` call: tokens of one sequence until it stops. */
import type { Sequence, SequenceOwner, StepFacts } from "./sequence.ts";
import type { EngineToken, SequenceEvent } from "./types.ts";

export interface GenerationOptions {
  readonly contextLength: number;
  readonly now: () => number;
  /** Foreign code: what it throws ends this sequence only. */
  readonly onEvent: (event: SequenceEvent) => void;
}

export class Generation implements SequenceOwner {
  /** Resolves behind the last event. */
  readonly ended: Promise<void>;
  readonly #contextLength: number;
  readonly #now: () => number;
  readonly #onEvent: (event: SequenceEvent) => void;
  readonly #resolve: () => void;
  readonly #reject: (reason: unknown) => void;
  readonly #undelivered: SequenceEvent[] = [];
  #started = false;
  #isOver = false;

  constructor(options: GenerationOptions) {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.ended = promise;
    this.#resolve = resolve;
    this.#reject = reject;
    this.#contextLength = options.contextLength;
    this.#now = options.now;
    this.#onEvent = options.onEvent;
  }

  /** Tokens leave when they are chosen; KV stays here. */
  progressed(): void {}

  chosen(sequence: Sequence, token: EngineToken, step: StepFacts): boolean {
    if (this.#isOver) return false;
    const { batchSize, stepUs } = step;
    if (!this.#started) this.#start(sequence);
    if (sequence.sampler.isStop(token.id)) {
      this.#finish(sequence, "stop", token.id);
      return false;
    }
    sequence.addToken(token.id);
    this.#undelivered.push({
      kind: "tokens",
      tokens: [token],
      batchSize,
      stepUs,
    });
    const full = sequence.outputCount >= sequence.spec.maxTokens ||
      sequence.tokenCount >= this.#contextLength;
    if (full) this.#finish(sequence, "length", undefined);
    return !full;
  }

  deliver(): void {
    for (const event of this.#undelivered.splice(0)) this.#onEvent(event);
    if (this.#isOver) this.#resolve();
  }

  failed(reason: unknown): void {
    this.#isOver = true;
    this.#undelivered.length = 0;
    this.#reject(reason);
  }

  #start(sequence: Sequence): void {
    this.#started = true;
    const { cachedTokens, transferredTokens, arrivedMs, givenCount } = sequence;
    const admittedMs = sequence.admittedMs ?? arrivedMs;
    this.#undelivered.push({
      kind: "started",
      cachedTokens,
      transferredTokens,
      computedTokens: givenCount - cachedTokens - transferredTokens,
      queueUs: Math.round(1000 * (admittedMs - arrivedMs)),
      prefillUs: Math.round(1000 * (this.#now() - admittedMs)),
    });
  }

  #finish(
    { preemptions }: Sequence,
    reason: "stop" | "length",
    stopTokenId: number | undefined,
  ): void {
    this.#undelivered.push({
      kind: "finished",
      reason,
      stopTokenId,
      preemptions,
    });
    this.#isOver = true;
  }
}

/** A `generate()` call: tokens of one sequence until it stops. */
import { EventQueue } from "../event_queue/event_queue.ts";
import type { Sequence, SequenceOwner, StepFacts } from "./sequence.ts";
import type { EngineToken, SequenceEvent } from "./types.ts";

export interface GenerationOptions {
  readonly contextLength: number;
  readonly now: () => number;
  /** The reader left before the end. */
  readonly onReturn: () => void;
}

export class Generation implements SequenceOwner {
  readonly events: EventQueue<SequenceEvent>;
  readonly #contextLength: number;
  readonly #now: () => number;
  #started = false;

  constructor(options: GenerationOptions) {
    this.events = new EventQueue(options.onReturn);
    this.#contextLength = options.contextLength;
    this.#now = options.now;
  }

  /** Tokens leave when they are chosen; KV stays here. */
  progressed(): void {}

  chosen(sequence: Sequence, token: EngineToken, step: StepFacts): boolean {
    if (!this.#started) this.#start(sequence);
    if (sequence.sampler.isStop(token.id)) {
      this.#finish(sequence, "stop", token.id);
      return false;
    }
    sequence.addToken(token.id);
    this.events.push({ kind: "tokens", tokens: [token], ...step });
    const full = sequence.outputCount >= sequence.spec.maxTokens ||
      sequence.tokenCount >= this.#contextLength;
    if (full) this.#finish(sequence, "length", undefined);
    return !full;
  }

  failed(reason: unknown): void {
    this.events.fail(reason);
  }

  #start(sequence: Sequence): void {
    this.#started = true;
    const { cachedTokens, transferredTokens, arrivedMs, givenCount } = sequence;
    const admittedMs = sequence.admittedMs ?? arrivedMs;
    this.events.push({
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
    this.events.push({ kind: "finished", reason, stopTokenId, preemptions });
    this.events.end();
  }
}

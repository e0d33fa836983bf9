/**
 * Tokens of crowded steps leave together.
 *
 * Between the engine and a client each message costs about 80 us of CPU, most of it
 * beside the token itself. With one sequence nobody notices; with 64 they take half the
 * time of a small model's step. So when a step ran for many sequences its tokens wait for
 * those of the next ones, at most `everyMs`, and leave in one message per sequence, all
 * sequences in one turn of the event loop. First tokens, ends and errors never wait, nor
 * do tokens of steps so slow that no other would come in that time.
 */
import type { DecodeEvent } from "../../proto/gen/quetzal/v1/decode.ts";
import type { EngineToken, SequenceEvent } from "../../lib/engine/types.ts";
import type { RpcSink } from "../../lib/rpc/mod.ts";
import { toDecodeEvent } from "./decode_event.ts";

export interface PacerOptions {
  /** Longest wait of a token; 0: none waits. */
  readonly everyMs: number;
  /** Sequences in a step from which its tokens wait. */
  readonly batchMin: number;
}

/** One for all sequences of a worker, so that they leave together. */
export class Pacer implements Disposable {
  readonly #options: PacerOptions;
  readonly #holding = new Set<PacedEvents>();
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(options: PacerOptions) {
    this.#options = options;
  }

  waits({ batchSize, stepUs }: StepFacts): boolean {
    const { everyMs, batchMin } = this.#options;
    return batchSize >= batchMin && stepUs < everyMs * 1_000;
  }

  hold(events: PacedEvents): void {
    this.#holding.add(events);
    this.#timer ??= setTimeout(() => this.#flush(), this.#options.everyMs);
  }

  forget(events: PacedEvents): void {
    this.#holding.delete(events);
  }

  #flush(): void {
    this.#timer = undefined;
    const holding = [...this.#holding];
    this.#holding.clear();
    for (const events of holding) events.flush();
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#timer);
    this.#holding.clear();
  }
}

/** Of the step that brought a token. */
type StepFacts = Pick<TokensEvent, "batchSize" | "stepUs">;

type TokensEvent = Extract<SequenceEvent, { kind: "tokens" }>;

export interface PacedEventsOptions {
  readonly sink: RpcSink<DecodeEvent>;
  readonly pacer: Pacer;
  readonly transferredBytes: () => number;
  /** Told each time that the reader falls behind, with what resolves when it has read. */
  readonly onSlow: (reading: Promise<void>) => void;
}

/**
 * The events of one sequence on their way to its sink. While the reader is behind they
 * wait here, tokens with tokens; what waits at the end is dropped.
 */
export class PacedEvents implements Disposable {
  readonly #options: PacedEventsOptions;
  #waiting: WaitingEvent[] = [];
  #isFirst = true;
  /** Set while the reader is behind. */
  #slow: Promise<void> | undefined;

  constructor(options: PacedEventsOptions) {
    this.#options = options;
  }

  write(event: SequenceEvent): void {
    this.#append(event);
    const { pacer } = this.#options;
    if (event.kind === "tokens" && !this.#isFirst && pacer.waits(event)) {
      pacer.hold(this);
      return;
    }
    if (event.kind === "tokens") this.#isFirst = false;
    pacer.forget(this);
    this.flush();
  }

  flush(): void {
    if (this.#slow !== undefined) return;
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const event of waiting) this.#send(event);
  }

  /** Resolves when the reader has what was written. */
  async read(): Promise<void> {
    while (this.#slow !== undefined) await this.#slow;
  }

  #append(event: SequenceEvent): void {
    if (event.kind !== "tokens") {
      this.#waiting.push(event);
      return;
    }
    const last = this.#waiting.at(-1);
    if (last?.kind === "tokens") {
      last.tokens.push(...event.tokens);
      last.batchSize = event.batchSize;
      last.stepUs = event.stepUs;
    } else this.#waiting.push({ ...event, tokens: [...event.tokens] });
  }

  #send(event: SequenceEvent): void {
    const { sink, transferredBytes, onSlow } = this.#options;
    const reading = sink.write(toDecodeEvent(event, transferredBytes()));
    if (reading === undefined || this.#slow !== undefined) return;
    this.#slow = reading.then(() => {
      this.#slow = undefined;
      this.flush();
    });
    onSlow(this.#slow);
  }

  [Symbol.dispose](): void {
    this.#options.pacer.forget(this);
    this.#waiting = [];
  }
}

type WaitingEvent =
  | Exclude<SequenceEvent, TokensEvent>
  | (Omit<TokensEvent, "tokens"> & { tokens: EngineToken[] });

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

/** The events of one sequence on their way to its sink; what waits at its end is dropped. */
export class PacedEvents implements Disposable {
  readonly #sink: RpcSink<DecodeEvent>;
  readonly #pacer: Pacer;
  readonly #transferredBytes: () => number;
  #tokens: EngineToken[] = [];
  #last: TokensEvent | undefined;
  #isFirst = true;
  /** Set while the reader is behind. */
  #slow: Promise<void> | undefined;

  constructor(
    sink: RpcSink<DecodeEvent>,
    pacer: Pacer,
    transferredBytes: () => number,
  ) {
    this.#sink = sink;
    this.#pacer = pacer;
    this.#transferredBytes = transferredBytes;
  }

  /** As `RpcSink.write()`. */
  write(event: SequenceEvent): Promise<void> | undefined {
    const waits = event.kind === "tokens" && !this.#isFirst &&
      this.#pacer.waits(event);
    if (!waits) {
      this.flush();
      if (event.kind === "tokens") this.#isFirst = false;
      return this.#send(event);
    }
    this.#tokens.push(...event.tokens);
    this.#last = event;
    this.#pacer.hold(this);
    return this.#slow;
  }

  flush(): void {
    const last = this.#last;
    if (last === undefined) return;
    const tokens = this.#tokens;
    this.#tokens = [];
    this.#last = undefined;
    this.#pacer.forget(this);
    void this.#send({ ...last, tokens });
  }

  #send(event: SequenceEvent): Promise<void> | undefined {
    const slow = this.#sink.write(
      toDecodeEvent(event, this.#transferredBytes()),
    );
    if (slow !== undefined) {
      this.#slow = slow;
      void slow.finally(() => {
        if (this.#slow === slow) this.#slow = undefined;
      });
    }
    return this.#slow;
  }

  [Symbol.dispose](): void {
    this.#pacer.forget(this);
  }
}

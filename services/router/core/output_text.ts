import type { TokenStream } from "../../../lib/tokenizer/types.ts";
import { StopScanner } from "./stop_strings.ts";

/** What one step adds to the answer; tokens belong to the text beside them. */
export interface OutputDelta<T> {
  text: string;
  tokens: OutputToken<T>[];
}

export interface OutputToken<T> {
  readonly token: T;
  /** Where its text begins in the answer, in UTF-16 units. */
  readonly offset: number;
}

/**
 * Turns the tokens of one sequence into text, cut exactly before a stop string.
 *
 * A token leaves together with the last character of its own text, so that
 * log-probabilities and text that a client has seen always agree. A token that
 * lies wholly inside a stop string never leaves.
 */
export class OutputText<T extends { readonly id: number }> {
  readonly #stream: TokenStream;
  readonly #scanner: StopScanner | undefined;
  readonly #minTokens: number;
  /** Tokens whose text is not out yet, oldest first. */
  #waiting: (OutputToken<T> & { readonly end: number })[] = [];
  /** Text behind the released part. */
  #held = "";
  #releasedCount = 0;
  #tokenCount = 0;
  #stopped: string | undefined;

  /** Stop strings are looked for behind the first `minTokens` tokens. */
  constructor(
    stream: TokenStream,
    { stop = [], minTokens = 0 }: {
      stop?: readonly string[];
      minTokens?: number;
    } = {},
  ) {
    this.#stream = stream;
    this.#scanner = stop.length > 0 ? new StopScanner(stop) : undefined;
    this.#minTokens = minTokens;
  }

  /** Tokens taken, the one that completed a stop string included. */
  get tokenCount(): number {
    return this.#tokenCount;
  }

  /** The stop string that ended the text. */
  get stopped(): string | undefined {
    return this.#stopped;
  }

  /**
   * Takes tokens until a stop string is complete; adds what became final to `delta`, and to
   * `pieces`, where given, what each token says, those behind the stop string included.
   */
  push(
    tokens: readonly T[],
    delta: OutputDelta<T>,
    pieces?: string[],
  ): void {
    for (const token of tokens) {
      const isBehind = this.#stopped !== undefined;
      if (isBehind && pieces === undefined) return;
      const piece = this.#stream.push(token.id);
      pieces?.push(piece);
      if (isBehind) continue;
      this.#tokenCount++;
      if (this.#scanner === undefined) {
        delta.tokens.push({ token, offset: this.#releasedCount });
        delta.text += piece;
        this.#releasedCount += piece.length;
      } else {
        this.#pushScanned(this.#scanner, token, piece, delta);
      }
    }
  }

  /** The end of generation: what was held back belongs to the answer after all. */
  end(delta: OutputDelta<T>): void {
    if (this.#stopped !== undefined) return;
    const rest = this.#stream.end();
    if (this.#scanner === undefined) {
      delta.text += rest;
      return;
    }
    this.#held += rest;
    if (this.#cutAtStop(this.#scanner, rest, delta)) return;
    this.#release(this.#held.length, delta);
    for (const { token, offset } of this.#waiting.splice(0)) {
      delta.tokens.push({ token, offset });
    }
  }

  #pushScanned(
    scanner: StopScanner,
    token: T,
    piece: string,
    delta: OutputDelta<T>,
  ): void {
    const offset = this.#releasedCount + this.#held.length;
    this.#held += piece;
    this.#waiting.push({ token, offset, end: offset + piece.length });
    if (this.#tokenCount <= this.#minTokens) {
      this.#release(this.#held.length, delta);
      return;
    }
    if (this.#cutAtStop(scanner, piece, delta)) return;
    this.#release(this.#held.length - scanner.heldCount, delta);
  }

  /** Scans the newest piece; on a match releases the text before it and drops the rest. */
  #cutAtStop(
    scanner: StopScanner,
    piece: string,
    delta: OutputDelta<T>,
  ): boolean {
    const match = scanner.scan(piece);
    if (match === undefined) return false;
    const behind = piece.length - match.end;
    const keep = this.#held.length - behind - match.stop.length;
    this.#stopped = match.stop;
    this.#release(keep, delta);
    for (const { token, offset } of this.#waiting.splice(0)) {
      if (offset < this.#releasedCount) delta.tokens.push({ token, offset });
    }
    this.#held = "";
    return true;
  }

  /** Moves the first `count` held characters, and the tokens they complete, into `delta`. */
  #release(count: number, delta: OutputDelta<T>): void {
    if (count > 0) {
      delta.text += this.#held.slice(0, count);
      this.#held = this.#held.slice(count);
      this.#releasedCount += count;
    }
    let done = 0;
    while (
      done < this.#waiting.length &&
      this.#waiting[done].end <= this.#releasedCount
    ) {
      const { token, offset } = this.#waiting[done++];
      delta.tokens.push({ token, offset });
    }
    if (done > 0) this.#waiting.splice(0, done);
  }
}

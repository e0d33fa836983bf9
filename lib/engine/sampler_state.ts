/**
 * What the sampler must know of one sequence, kept ready to be copied into a
 * step's `Batch`: constant words, biases, and, when a penalty is on, how often
 * each token occurs.
 */
import type { Sampling } from "./types.ts";

export class SamplerState {
  readonly sampling: Sampling;
  readonly seedLow: number;
  readonly seedHigh: number;
  readonly biasIds: Int32Array;
  readonly biasValues: Float32Array;
  readonly #stopIds: ReadonlySet<number>;
  /**
   * The bias arrays hold, one after another: bans of stop tokens, biases of other
   * tokens, biases of stop tokens. A row takes the first two parts or the last
   * two, so that it never names a token twice.
   */
  readonly #banCount: number;
  readonly #otherCount: number;
  readonly #history: TokenHistory | undefined;

  constructor(
    sampling: Sampling,
    promptIds: Int32Array,
    emittedIds: Int32Array,
  ) {
    this.sampling = sampling;
    this.seedLow = Number(BigInt.asIntN(32, sampling.seed));
    this.seedHigh = Number(BigInt.asIntN(32, sampling.seed >> 32n));
    this.#stopIds = new Set(sampling.stopIds);
    const bans = [...this.#stopIds].map((id) => [id, -Infinity] as const);
    const biases = [...sampling.logitBias];
    const others = biases.filter(([id]) => !this.#stopIds.has(id));
    const ofStops = biases.filter(([id]) => this.#stopIds.has(id));
    const entries = [...bans, ...others, ...ofStops];
    this.#banCount = bans.length;
    this.#otherCount = others.length;
    this.biasIds = Int32Array.from(entries, ([id]) => id);
    this.biasValues = Float32Array.from(entries, ([, value]) => value);
    this.#history = usesHistory(sampling) ? new TokenHistory() : undefined;
    if (sampling.repetitionPenalty !== 1) {
      for (const id of promptIds) this.#history?.add(id, 0);
    }
    for (const id of emittedIds) this.chosen(id);
  }

  isStop(tokenId: number): boolean {
    return this.#stopIds.has(tokenId);
  }

  /** Bias entries [begin, end) that hold for output number `outputIndex`. */
  biasBegin(outputIndex: number): number {
    return this.#bans(outputIndex) ? 0 : this.#banCount;
  }

  biasEnd(outputIndex: number): number {
    return this.#bans(outputIndex)
      ? this.#banCount + this.#otherCount
      : this.biasIds.length;
  }

  /** Whether the next choice depends on the tokens chosen so far, not only on their KV. */
  get needsTokens(): boolean {
    return this.#history !== undefined;
  }

  /** Distinct tokens whose penalties count. */
  get historyCount(): number {
    return this.#history?.count ?? 0;
  }

  /** i32 [historyCount, 2]: token id, times it occurs in the output */
  get historyWords(): Int32Array {
    return this.#history?.words ?? noWords;
  }

  /** A token joined the output. */
  chosen(tokenId: number): void {
    this.#history?.add(tokenId, 1);
  }

  #bans(outputIndex: number): boolean {
    return outputIndex < this.sampling.minTokens;
  }
}

const noWords = new Int32Array(0);

function usesHistory(sampling: Sampling): boolean {
  return sampling.presencePenalty !== 0 || sampling.frequencyPenalty !== 0 ||
    sampling.repetitionPenalty !== 1;
}

/** Distinct tokens of a sequence in order of appearance, with their counts. */
class TokenHistory {
  words = new Int32Array(64);
  count = 0;
  readonly #indexById = new Map<number, number>();

  add(tokenId: number, times: number): void {
    let index = this.#indexById.get(tokenId);
    if (index === undefined) {
      index = this.count++;
      this.#indexById.set(tokenId, index);
      this.#grow();
      this.words[2 * index] = tokenId;
    }
    this.words[2 * index + 1] += times;
  }

  #grow(): void {
    if (2 * this.count <= this.words.length) return;
    const words = new Int32Array(2 * this.words.length);
    words.set(this.words);
    this.words = words;
  }
}

/**
 * KV on its way from another worker.
 *
 * A fetch may fail in any way: then its sequence is computed here. It writes into
 * blocks that only its sequence holds, and they stay held until the fetcher has
 * returned, even when the sequence is cancelled before.
 */
import { within } from "../within/within.ts";
import type { Sequence } from "./sequence.ts";
import type { KvFetcher, KvFetchRequest, KvFetchResult } from "./types.ts";

export interface KvFetchesOptions {
  readonly blockBytes: (blockId: number) => Uint8Array;
  readonly onWarning: (message: string, cause?: unknown) => void;
}

export class KvFetches {
  readonly #options: KvFetchesOptions;
  readonly #running = new Map<
    Sequence,
    { readonly controller: AbortController; readonly done: Promise<unknown> }
  >();

  constructor(options: KvFetchesOptions) {
    this.#options = options;
  }

  /** What arrived; `undefined` when nothing of it may be used. Never rejects. */
  async start(sequence: Sequence): Promise<KvFetchResult | undefined> {
    const fetchKv = sequence.fetchKv!;
    sequence.fetchKv = undefined;
    const controller = new AbortController();
    const done = this.#fetch(sequence, fetchKv, controller.signal);
    this.#running.set(sequence, { controller, done });
    const result = await done;
    this.#running.delete(sequence);
    return result;
  }

  abort(sequence: Sequence): void {
    this.#running.get(sequence)?.controller.abort();
  }

  abortAll(): void {
    for (const { controller } of this.#running.values()) controller.abort();
  }

  /** Waits until all fetchers have returned; one that never does is left behind. */
  async settled(waitMs: number): Promise<void> {
    if (this.#running.size === 0) return;
    const all = Promise.all(
      [...this.#running.values()].map(({ done }) => done),
    );
    await within(waitMs, all);
    if (this.#running.size > 0) {
      this.#options.onWarning(
        `${this.#running.size} KV fetches did not stop within ${waitMs} ms`,
      );
    }
  }

  async #fetch(
    sequence: Sequence,
    fetchKv: KvFetcher,
    signal: AbortSignal,
  ): Promise<KvFetchResult | undefined> {
    try {
      const result = await fetchKv(this.#request(sequence, signal), signal);
      checkResult(sequence, result);
      return result;
    } catch (cause) {
      // After an abort nobody waits for the KV, so its loss is no news.
      if (signal.aborted) return undefined;
      const { requestId } = sequence.spec;
      this.#options.onWarning(
        `KV of sequence "${requestId}" did not arrive; it is computed here`,
        cause,
      );
      return undefined;
    }
  }

  #request(sequence: Sequence, signal: AbortSignal): KvFetchRequest {
    return {
      tokenIds: sequence.tokens.slice(0, sequence.tokenCount),
      haveTokens: sequence.kvCount,
      blockBytes: (index) => {
        signal.throwIfAborted();
        const own = index >= sequence.storedCount &&
          index < sequence.blockCount;
        if (!own || sequence.phase !== "fetching") {
          const range = `${sequence.storedCount}..${sequence.blockCount - 1}`;
          throw new RangeError(
            `Cannot write a KV block: needs a missing block ${range}, found ${index}`,
          );
        }
        return this.#options.blockBytes(sequence.blocks[index]);
      },
    };
  }
}

function checkResult(
  { kvCount, tokenCount }: Sequence,
  { tokens, firstToken }: KvFetchResult,
): void {
  if (!Number.isInteger(tokens) || tokens < kvCount || tokens > tokenCount) {
    throw new RangeError(
      `Cannot use fetched KV: needs ${kvCount}..${tokenCount} tokens, found ${tokens}`,
    );
  }
  if (firstToken !== undefined && tokens !== tokenCount) {
    throw new RangeError(
      `Cannot use a fetched first token: needs all ${tokenCount} tokens, found ${tokens}`,
    );
  }
}

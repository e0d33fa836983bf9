/**
 * An engine without a model, for tests of the services around it.
 *
 * The KV of a token is a hash of all tokens up to it, and the next token is a hash of
 * the KV bytes themselves. So a sequence whose KV came from elsewhere only goes on
 * as it should when every transferred byte is right.
 */
import { createHash } from "node:crypto";
import { Code, MeshError } from "../../errors/mesh_error.ts";
import type { KvType } from "../../engine/native.ts";
import type {
  EmbedResult,
  EmbedSpec,
  Engine,
  EngineStatus,
  EngineToken,
  KvFetcher,
  PrefillProgress,
  PrefillResult,
  RunOptions,
  SequenceEvent,
  SequenceSpec,
} from "../../engine/types.ts";

export interface FakeEngineOptions {
  readonly fingerprint?: string;
  readonly kvType?: KvType;
  readonly vocabSize?: number;
  readonly contextLength?: number;
  readonly kvBlockBytes?: number;
  /** Pause before each decode step, ms. */
  readonly stepMs?: number;
  /** Pause before each chunk of a prompt, ms. */
  readonly chunkMs?: number;
  readonly chunkTokens?: number;
}

type CacheListener = Parameters<Engine["onCacheChange"]>[0];

export class FakeEngine implements Engine {
  readonly fingerprint: string;
  readonly kvType: KvType;
  readonly contextLength: number;
  readonly blockTokens = 16;
  readonly kvBlockBytes: number;
  readonly layers = 2;
  readonly vocabSize: number;
  readonly hiddenSize = 4;
  readonly weightBytes = 1_000;
  readonly kvBytes: number;
  /** Sequences that ended because their signal was aborted. */
  abortedCount = 0;
  running = 0;
  stepMs: number;
  chunkMs: number;
  readonly #chunkTokens: number;
  /** Blocks of finished prompts by the tokens they stand for. */
  readonly #cache = new Map<string, Uint8Array>();
  readonly #listeners = new Set<CacheListener>();

  constructor(options: FakeEngineOptions = {}) {
    this.fingerprint = options.fingerprint ?? "fake-1";
    this.kvType = options.kvType ?? "f16";
    this.contextLength = options.contextLength ?? 4096;
    this.kvBlockBytes = options.kvBlockBytes ?? 256;
    this.kvBytes = 100 * this.kvBlockBytes;
    this.vocabSize = options.vocabSize ?? 1000;
    this.stepMs = options.stepMs ?? 0;
    this.chunkMs = options.chunkMs ?? 0;
    this.#chunkTokens = options.chunkTokens ?? 32;
  }

  status(): EngineStatus {
    return {
      blocksTotal: 100,
      blocksFree: 100 - this.running,
      running: this.running,
      waiting: 0,
      prefillTokensPerS: 0,
      decodeTokensPerS: 0,
    };
  }

  async *generate(
    spec: SequenceSpec,
    { signal, fetchKv }: { signal: AbortSignal; fetchKv?: KvFetcher },
  ): AsyncIterable<SequenceEvent> {
    const ids = this.#idsOf(spec);
    this.running++;
    try {
      const kv = new FakeKv(this.kvBlockBytes, this.blockTokens);
      const cachedTokens = this.#restore(kv, ids);
      let token: EngineToken | undefined;
      if (fetchKv) {
        const fetched = await fetchKv({
          tokenIds: Int32Array.from(ids),
          haveTokens: cachedTokens,
          blockBytes: (index) => kv.block(index),
        }, signal);
        signal.throwIfAborted();
        kv.tokens = fetched.tokens;
        if (fetched.tokens === ids.length) token = fetched.firstToken;
      }
      const transferredTokens = kv.tokens - cachedTokens;
      await this.#compute(kv, ids, signal);
      this.#store(kv, ids);
      yield {
        kind: "started",
        cachedTokens,
        transferredTokens,
        computedTokens: ids.length - cachedTokens - transferredTokens,
        queueUs: 1,
        prefillUs: 2,
      };
      for (let made = spec.emittedIds.length;; made++) {
        if (made === spec.maxTokens) {
          yield finished("length", undefined);
          return;
        }
        token ??= this.#next(kv, spec);
        if (spec.sampling.stopIds.includes(token.id)) {
          yield finished("stop", token.id);
          return;
        }
        yield {
          kind: "tokens",
          tokens: [token],
          batchSize: this.running,
          stepUs: 5,
        };
        await pause(this.stepMs);
        signal.throwIfAborted();
        ids.push(token.id);
        kv.append(ids);
        token = undefined;
      }
    } catch (reason) {
      if (signal.aborted) this.abortedCount++;
      throw reason;
    } finally {
      this.running--;
    }
  }

  async run(
    spec: SequenceSpec,
    { onEvent, ...options }: RunOptions,
  ): Promise<void> {
    for await (const event of this.generate(spec, options)) onEvent(event);
  }

  async prefill(
    spec: SequenceSpec,
    { signal, onBlocks }: {
      signal: AbortSignal;
      onBlocks?: (progress: PrefillProgress) => void;
    },
  ): Promise<PrefillResult> {
    const ids = this.#idsOf(spec);
    this.running++;
    try {
      const kv = new FakeKv(this.kvBlockBytes, this.blockTokens);
      const cachedTokens = this.#restore(kv, ids);
      await this.#compute(kv, ids, signal, onBlocks);
      this.#store(kv, ids);
      const firstToken = this.#next(kv, spec);
      return {
        kv: {
          tokenCount: ids.length,
          blockCount: Math.ceil(ids.length / this.blockTokens),
          blockBytes: (index) => kv.block(index),
          [Symbol.dispose]: () => kv.forget(),
        },
        firstToken,
        stopped: spec.sampling.stopIds.includes(firstToken.id),
        cachedTokens,
        computedTokens: ids.length - cachedTokens,
        queueUs: 1,
        computeUs: 2,
      };
    } catch (reason) {
      if (signal.aborted) this.abortedCount++;
      throw reason;
    } finally {
      this.running--;
    }
  }

  /** Values that depend on all ids. */
  async embed(
    { promptIds }: EmbedSpec,
    { signal }: { signal: AbortSignal },
  ): Promise<EmbedResult> {
    const ids = [...promptIds];
    this.running++;
    try {
      const kv = new FakeKv(this.kvBlockBytes, this.blockTokens);
      const cachedTokens = this.#restore(kv, ids);
      await this.#compute(kv, ids, signal);
      this.#store(kv, ids);
      const digest = kv.digest();
      return {
        values: Float32Array.from(
          { length: this.hiddenSize },
          (_, i) => mix(digest, i) / 2 ** 32 - 0.5,
        ),
        cachedTokens,
        computedTokens: ids.length - cachedTokens,
        queueUs: 1,
        computeUs: 2,
      };
    } catch (reason) {
      if (signal.aborted) this.abortedCount++;
      throw reason;
    } finally {
      this.running--;
    }
  }

  onCacheChange(listener: CacheListener): Disposable {
    this.#listeners.add(listener);
    return { [Symbol.dispose]: () => void this.#listeners.delete(listener) };
  }

  cachedHashes(): readonly string[] {
    return [...this.#cache.keys()];
  }

  /** Drops the whole prefix cache. */
  evictAll(): void {
    const removed = this.cachedHashes();
    this.#cache.clear();
    for (const listener of this.#listeners) listener({ stored: [], removed });
  }

  [Symbol.asyncDispose](): Promise<void> {
    return Promise.resolve();
  }

  #idsOf({ promptIds, emittedIds }: SequenceSpec): number[] {
    const ids = [...promptIds, ...emittedIds];
    if (ids.length === 0 || ids.length > this.contextLength) {
      throw new MeshError(
        Code.invalidArgument,
        `Cannot run the prompt: needs 1..${this.contextLength} ids, found ${ids.length}`,
        { field: "prompt_ids" },
      );
    }
    return ids;
  }

  async #compute(
    kv: FakeKv,
    ids: readonly number[],
    signal: AbortSignal,
    onBlocks?: (progress: PrefillProgress) => void,
  ): Promise<void> {
    // Blocks from the cache are told of as well, like those of a real engine.
    let begin = 0;
    while (kv.tokens < ids.length) {
      await pause(this.chunkMs);
      signal.throwIfAborted();
      const target = Math.min(ids.length, kv.tokens + this.#chunkTokens);
      while (kv.tokens < target) kv.append(ids);
      const end = Math.floor(kv.tokens / this.blockTokens);
      if (end > begin) {
        onBlocks?.({
          begin,
          end,
          blockBytes: (i) => kv.block(i),
        });
      }
      begin = end;
    }
  }

  /** Takes leading full blocks from the cache; the last token is always computed. */
  #restore(kv: FakeKv, ids: readonly number[]): number {
    while (kv.tokens + this.blockTokens < ids.length) {
      const key = nameOf(ids.slice(0, kv.tokens + this.blockTokens));
      const bytes = this.#cache.get(key);
      if (bytes === undefined) break;
      kv.block(kv.tokens / this.blockTokens).set(bytes);
      kv.tokens += this.blockTokens;
    }
    return kv.tokens;
  }

  #store(kv: FakeKv, ids: readonly number[]): void {
    const stored: string[] = [];
    for (
      let end = this.blockTokens;
      end <= ids.length;
      end += this.blockTokens
    ) {
      const key = nameOf(ids.slice(0, end));
      if (this.#cache.has(key)) continue;
      this.#cache.set(key, kv.block(end / this.blockTokens - 1).slice());
      stored.push(key);
    }
    if (stored.length === 0) return;
    for (const listener of this.#listeners) listener({ stored, removed: [] });
  }

  #next(kv: FakeKv, { sampling }: SequenceSpec): EngineToken {
    const id = (kv.digest() ^ Number(sampling.seed & 0xffffn)) % this.vocabSize;
    const wanted = sampling.topLogprobs;
    return {
      id,
      logprob: wanted === undefined ? undefined : -0.5,
      top: Array.from(
        { length: wanted ?? 0 },
        (_, i) => ({ id: i, logprob: -1 - i }),
      ),
    };
  }
}

/** KV of one sequence, block by block. */
class FakeKv {
  tokens = 0;
  readonly #blockBytes: number;
  readonly #blockTokens: number;
  readonly #blocks: Uint8Array[] = [];

  constructor(blockBytes: number, blockTokens: number) {
    this.#blockBytes = blockBytes;
    this.#blockTokens = blockTokens;
  }

  block(index: number): Uint8Array {
    return this.#blocks[index] ??= new Uint8Array(this.#blockBytes);
  }

  /** Adds the KV of the next token of `ids`, which depends on all before it. */
  append(ids: readonly number[]): void {
    const position = this.tokens++;
    let hash = this.digest(position) ^ ids[position];
    const slot = this.#slot(position);
    for (let i = 0; i < slot.length; i++) {
      hash = mix(hash, i);
      slot[i] = hash;
    }
  }

  /** Hash of the KV bytes of the last of the first `count` tokens, and their count. */
  digest(count = this.tokens): number {
    let hash = mix(0, count);
    if (count > 0) {
      for (const byte of this.#slot(count - 1)) hash = mix(hash, byte);
    }
    // One byte of each block as well, so that damage anywhere shows.
    for (let i = 0; i * this.#blockTokens < count; i++) {
      for (const byte of this.#slot(i * this.#blockTokens)) {
        hash = mix(hash, byte);
      }
    }
    return hash >>> 1;
  }

  /** What a block that was given back looks like to whoever still reads it. */
  forget(): void {
    for (const block of this.#blocks) block?.fill(0xdd);
  }

  #slot(position: number): Uint8Array {
    const bytes = this.#blockBytes / this.#blockTokens;
    const begin = (position % this.#blockTokens) * bytes;
    return this.block(Math.floor(position / this.#blockTokens))
      .subarray(begin, begin + bytes);
  }
}

function nameOf(ids: readonly number[]): string {
  return createHash("sha256").update(ids.join()).digest("hex");
}

function mix(hash: number, value: number): number {
  return Math.imul(hash ^ (value + 0x9e3779b9), 0x01000193) >>> 0;
}

function finished(
  reason: "stop" | "length",
  stopTokenId: number | undefined,
): SequenceEvent {
  return { kind: "finished", reason, stopTokenId, preemptions: 0 };
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) =>
    ms > 0 ? setTimeout(resolve, ms) : setImmediate(resolve)
  );
}

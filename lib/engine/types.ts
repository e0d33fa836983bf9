/** The engine as services see it: sequences in, tokens out, KV blocks by index. */
import type { KvType } from "./native.ts";

/** Normalized sampling; every field present. See proto SamplingParams for meaning. */
export interface Sampling {
  readonly temperature: number;
  readonly topK: number;
  readonly topP: number;
  readonly minP: number;
  readonly seed: bigint;
  readonly presencePenalty: number;
  readonly frequencyPenalty: number;
  readonly repetitionPenalty: number;
  readonly logitBias: ReadonlyMap<number, number>;
  /** With the model's end tokens unless those are ignored. */
  readonly stopIds: readonly number[];
  readonly minTokens: number;
  /** Alternatives to report; `undefined`: no log-probabilities at all. */
  readonly topLogprobs: number | undefined;
}

export interface SequenceSpec {
  readonly requestId: string;
  readonly promptIds: Int32Array;
  /** Output of an earlier worker; generation goes on behind it. */
  readonly emittedIds: Int32Array;
  readonly sampling: Sampling;
  /** Counts emittedIds too; at least emittedIds.length + 1. */
  readonly maxTokens: number;
}

/** A prompt to embed. */
export interface EmbedSpec {
  readonly requestId: string;
  readonly promptIds: Int32Array;
}

export interface EmbedResult {
  /** f32 [hiddenSize], the last token's hidden state behind the final norm */
  readonly values: Float32Array;
  readonly cachedTokens: number;
  readonly computedTokens: number;
  readonly queueUs: number;
  readonly computeUs: number;
}

export interface EngineToken {
  readonly id: number;
  readonly logprob: number | undefined;
  readonly top: readonly { readonly id: number; readonly logprob: number }[];
}

export type SequenceEvent =
  | {
    kind: "started";
    /** Prompt tokens (with emittedIds) found in the prefix cache. */
    cachedTokens: number;
    transferredTokens: number;
    computedTokens: number;
    queueUs: number;
    prefillUs: number;
  }
  | {
    kind: "tokens";
    tokens: readonly EngineToken[];
    batchSize: number;
    stepUs: number;
  }
  | {
    kind: "finished";
    reason: "stop" | "length";
    stopTokenId: number | undefined;
    preemptions: number;
  };

/**
 * Where a sequence may get KV from instead of computing it. Called once after
 * admission, off the step loop; whatever it did not deliver is computed here.
 */
export type KvFetcher = (
  request: KvFetchRequest,
  signal: AbortSignal,
) => Promise<KvFetchResult>;

export interface KvFetchRequest {
  /** Prompt and emitted ids together. */
  readonly tokenIds: Int32Array;
  /** Leading tokens that are here already, a multiple of blockTokens. */
  readonly haveTokens: number;
  /** Where block `index` of the sequence (16 tokens from index * 16) goes. */
  blockBytes(index: number): Uint8Array;
}

export interface KvFetchResult {
  /** Leading tokens whose KV is now complete, >= haveTokens. */
  readonly tokens: number;
  /** Present when all tokens arrived and the other side chose the first token. */
  readonly firstToken?: EngineToken;
}

export interface EngineStatus {
  readonly blocksTotal: number;
  /** Free or reclaimable. */
  readonly blocksFree: number;
  readonly running: number;
  readonly waiting: number;
  /** Per second of step time spent on that kind of work, of late; 0 before any. */
  readonly prefillTokensPerS: number;
  readonly decodeTokensPerS: number;
}

/** What one step did. */
export interface StepReport {
  /** Of prompts and of answers. */
  readonly tokens: number;
  /** Sequences that gave up their blocks since the step before. */
  readonly preemptions: number;
}

/** The GPU under an engine. */
export interface DeviceStatus {
  readonly name: string;
  readonly memoryBytes: number;
  /** Weights and KV read per second by the last step; undefined before the first. */
  readonly bytesPerS: number | undefined;
  /** Why no sequence can run any more; only a new process helps. */
  readonly fault: string | undefined;
}

/** Blocks of a finished prompt, held until disposed. */
export interface PromptKv extends Disposable {
  readonly tokenCount: number;
  readonly blockCount: number;
  /** Bytes of block `index`; valid until disposed. */
  blockBytes(index: number): Uint8Array;
}

export interface Engine extends AsyncDisposable {
  readonly fingerprint: string;
  /** How its blocks hold keys and values; part of the fingerprint. */
  readonly kvType: KvType;
  readonly contextLength: number;
  readonly blockTokens: number;
  readonly kvBlockBytes: number;
  readonly layers: number;
  readonly vocabSize: number;
  /** Values of an embedding. */
  readonly hiddenSize: number;
  /** Bytes of weights in memory, and of the whole KV pool. */
  readonly weightBytes: number;
  readonly kvBytes: number;
  status(): EngineStatus;
  /** Undefined, or left out, on the CPU. */
  device?(): DeviceStatus | undefined;
  /** Told after each step. */
  onStep?(listener: (step: StepReport) => void): Disposable;
  /**
   * Runs one sequence. Throws `MeshError`: invalidArgument (empty prompt, ids
   * outside the vocabulary, longer than the context, or than the whole pool),
   * resourceExhausted (waiting queue full), or the signal's reason. Aborting
   * frees its blocks at the next step boundary.
   */
  generate(
    spec: SequenceSpec,
    options: { signal: AbortSignal; fetchKv?: KvFetcher },
  ): AsyncIterable<SequenceEvent>;
  /**
   * The same without a queue: events are told as they happen, between two steps, and the
   * promise resolves behind the last one; that saves a promise per token. What `onEvent`
   * throws ends the sequence.
   */
  run(spec: SequenceSpec, options: RunOptions): Promise<void>;
  /**
   * Runs a prompt and chooses the first token. `onBlocks` is told as blocks
   * fill, so that they can leave while the next chunk is computed; it must copy
   * or send the bytes before it returns or resolves.
   */
  prefill(
    spec: SequenceSpec,
    options: {
      signal: AbortSignal;
      onBlocks?: (progress: PrefillProgress) => void;
    },
  ): Promise<PrefillResult>;
  /**
   * Runs a prompt for the hidden state of its last token. It shares steps and prefix
   * cache with all other sequences, and the values are the same bits whatever runs
   * beside it. Throws as `generate` does.
   */
  embed(
    spec: EmbedSpec,
    options: { signal: AbortSignal },
  ): Promise<EmbedResult>;
  /** Numbered changes of the prefix cache, for the router's index. */
  onCacheChange(
    listener: (
      change: { stored: readonly string[]; removed: readonly string[] },
    ) => void,
  ): Disposable;
  /** Hashes of all full blocks held now. */
  cachedHashes(): readonly string[];
}

export interface RunOptions {
  readonly signal: AbortSignal;
  readonly fetchKv?: KvFetcher;
  readonly onEvent: (event: SequenceEvent) => void;
}

export interface PrefillProgress {
  /** Blocks [begin, end) of the sequence are complete now. */
  readonly begin: number;
  readonly end: number;
  blockBytes(index: number): Uint8Array;
}

export interface PrefillResult {
  readonly kv: PromptKv;
  readonly firstToken: EngineToken;
  /** firstToken is one of sampling.stopIds. */
  readonly stopped: boolean;
  readonly cachedTokens: number;
  readonly computedTokens: number;
  readonly queueUs: number;
  readonly computeUs: number;
}

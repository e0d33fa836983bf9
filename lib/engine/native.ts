/**
 * What the native addon offers to the engine. `kernels/addon/mod.ts` implements
 * it; tests may bring their own implementation.
 */
import type { Program } from "./program.ts";

/** Instruction sets, slowest first; `ref` is the plain twin of every kernel. */
export const isas = ["ref", "avx2", "avx512", "amx"] as const;
/** The emulated one is for tests of kernels, where QUETZAL_EMULATED_ISAS is set. */
export type Isa = typeof isas[number] | "amx-emulated";

/** What runs a model: an instruction set of the CPU, or a GPU. */
export type Target = Isa | "cuda";

/** The GPU that a model would run on, or why none can. */
export type CudaProbe = CudaDevice | { readonly missing: string };

export interface CudaDevice {
  readonly missing?: undefined;
  readonly name: string;
  readonly memoryBytes: number;
  readonly freeBytes: number;
  /** Compute capability. */
  readonly major: number;
  readonly minor: number;
}

export interface Native {
  /** What this machine can run, slowest first. */
  readonly isasSupported: readonly Isa[];
  /**
   * Reads the weights (by native threads, into huge-page memory) and checks the
   * program. Rejects with an `Error` whose message says tensor or op, needed and found.
   */
  loadModel(spec: NativeModelSpec): Promise<NativeModel>;
  /** CRC-32C (Castagnoli) of the bytes, hardware-assisted where possible. */
  crc32c(bytes: Uint8Array): number;
  /** Opens the driver when it is there; absent where native code knows no GPU. */
  cuda?(): CudaProbe;
}

export interface WeightSpec {
  readonly name: string;
  /** ggml type id, one of kernels/include/weight_format.h */
  readonly type: number;
  /** ne[0], the contiguous dimension */
  readonly cols: number;
  /** ne[1]; 1 for vectors */
  readonly rows: number;
  /** Bytes from the start of the file. */
  readonly offset: number;
  readonly bytes: number;
}

/** How keys and values are stored: halves, or ggml's q8_0 (32 int8 and an f16 scale). */
export const kvTypes = ["f16", "q8_0"] as const;
export type KvType = typeof kvTypes[number];

export interface KvShape {
  /**
   * Default f16. q8_0 needs `headDim` in multiples of 32 and `blockTokens` in
   * multiples of 16, and no GPU can do it.
   */
  readonly type?: KvType;
  readonly layers: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly blockTokens: number;
  /** Blocks in the pool. */
  readonly blocks: number;
}

export interface NativeModelSpec {
  readonly path: string;
  readonly isa: Target;
  /** Native threads that run a step, 1..256. */
  readonly threads: number;
  readonly weights: readonly WeightSpec[];
  readonly program: Program;
  readonly kv: KvShape;
  /** Most tokens in a step. */
  readonly rowsMax: number;
  /** Most rows with logits in a step. */
  readonly outRowsMax: number;
}

/** Most alternatives per token that `StepOutput` can carry. */
export const topLogprobsMax = 20;

/** Words per out row of `Batch.samplingInts` and `Batch.samplingFloats`. */
export const samplingIntWords = 10;
export const samplingFloatWords = 6;

/** One step. Arrays may be longer than needed: the counts rule. */
export interface Batch {
  readonly rows: number;
  readonly sequences: number;
  readonly outRows: number;
  /**
   * i32 [rows]; where the model `chainsSteps`, -1 - i is what out row i of the step
   * asked for before this one chooses
   */
  readonly tokenIds: Int32Array;
  /** i32 [rows], position of each token in its sequence */
  readonly positions: Int32Array;
  /**
   * i32 [sequences, 4]: first row, row count, tokens whose KV exists before the
   * step, first entry in `blockTables`. Rows of a sequence are adjacent and in
   * order; its table has ceil((kvBefore + rowCount) / blockTokens) entries.
   */
  readonly sequenceTable: Int32Array;
  /** i32 block ids, all sequences after one another */
  readonly blockTables: Int32Array;
  /** i32 [outRows], rows whose logits are wanted, ascending */
  readonly outRowIndex: Int32Array;
  /**
   * i32 [outRows, 10]: topK, topLogprobs (-1: none), seed low, seed high, draw
   * index, history begin, history count, bias begin, bias count, 1 if the row's
   * hidden state is wanted
   */
  readonly samplingInts: Int32Array;
  /**
   * f32 [outRows, 6]: temperature, topP, minP, presence, frequency, repetition
   */
  readonly samplingFloats: Float32Array;
  /** i32 [history, 2]: token id, times it occurs in the output (0: prompt only) */
  readonly history: Int32Array;
  /** i32 [bias] and f32 [bias]: added to a logit; -Infinity forbids the token */
  readonly biasIds: Int32Array;
  readonly biasValues: Float32Array;
  /** f32 [outRows, vocab]; filled with the raw logits when given */
  readonly logits?: Float32Array;
}

export interface StepOutput {
  /** i32 [outRows] */
  readonly tokens: Int32Array;
  /** f32 [outRows], log-probability of the token under the raw logits */
  readonly logprobs: Float32Array;
  /** i32 [outRows, topLogprobsMax], best first; -1 beyond what was asked */
  readonly topIds: Int32Array;
  /** f32 [outRows, topLogprobsMax] */
  readonly topLogprobs: Float32Array;
  /**
   * f32 [rows that want it, hiddenSize]: what the output matrix is multiplied with,
   * behind the final norm; absent when no row wants it
   */
  readonly hidden?: Float32Array;
  /** Wall time of the step in native code. */
  readonly stepUs: number;
  /** On a GPU: time of the step's kernels, and bytes of weights and KV they read. */
  readonly deviceUs?: number;
  readonly bytesRead?: number;
}

export interface NativeModel {
  readonly isa: Target;
  /**
   * The KV pool itself: block b is bytes [b * kvBlockBytes, (b + 1) * kvBlockBytes),
   * [layer][k|v][kvHead], each f16 [token][headDim] or what q8_0 makes of it
   * (kernels/include/kernels.h). A block may be read or written from here only while
   * no step that names it runs.
   */
  readonly kv: Uint8Array;
  readonly kvBlockBytes: number;
  /**
   * The bytes of one block, for a pool that is too big for one array: then `kv` is
   * empty. Under the same rule as `kv`.
   */
  kvBlock?(blockId: number): Uint8Array;
  /** Bytes of weights in memory. */
  readonly weightBytes: number;
  /**
   * Runs the program once. Steps run one after another; a bad batch rejects and
   * changes nothing.
   */
  step(batch: Batch): Promise<StepOutput>;
  /**
   * A step may be asked for while the one before runs, and take tokens from it (see
   * `Batch.tokenIds`). Such a model has read the batch when `step` returns.
   */
  readonly chainsSteps?: boolean | undefined;
  /** Why no step can run any more, such as a lost GPU; only a new process helps. */
  readonly fault?: string | undefined;
  /** On a GPU: moves the weights to host memory; steps reject until `wake`. */
  sleep?(): Promise<void>;
  /** Brings the weights back; rejects when the GPU has no room for them now. */
  wake?(): Promise<void>;
  /** Waits for the running step, then frees everything. `kv` is dead afterwards. */
  close(): Promise<void>;
}

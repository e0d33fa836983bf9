/** Options of an engine, with what they become when left out. */
import { availableParallelism, totalmem } from "node:os";
import { Code, MeshError } from "../errors/mesh_error.ts";
import type { GgufFile } from "../gguf/mod.ts";
import { blockTokens } from "./block_hash.ts";
import type { ModelFile } from "./model_file.ts";
import { type Backend, chooseBackend, deviceKvBytes } from "./backend.ts";
import {
  type CudaDevice,
  type Isa,
  isas,
  type KvType,
  type Native,
} from "./native.ts";

export interface EngineOptions {
  /** The GGUF file; either this or `gguf`. */
  readonly path?: string;
  /** A header that was read already. */
  readonly gguf?: GgufFile;
  /** A file that was opened already, in place of both; it has its own `kvType`. */
  readonly file?: ModelFile;
  /**
   * `f16` or `q8_0`; default f16. q8_0 takes 53 % of the memory and needs heads in
   * multiples of 32 dims and the CPU.
   */
  readonly kvType?: KvType;
  /** Native code; default: the addon of this project. */
  readonly native?: Native;
  /** Native threads, 1..256; default: one per core that this process may use. */
  readonly threads?: number;
  /** `ref`, `avx2`, `avx512` or `amx`; default: the fastest that this machine has. */
  readonly isa?: string;
  /** `cpu`, `cuda` or `auto`; default `auto`: a GPU where one is there. */
  readonly backend?: Backend;
  /**
   * KV blocks of 16 tokens in the pool; default: from `kvBytes`, else as many as
   * `runningMax` sequences of full context need, but at most a quarter of
   * `memoryBytes`, and at least one full context. On a GPU at most what weights
   * and activations leave of its free memory.
   */
  readonly kvBlocks?: number;
  /**
   * Memory that models may use, on a GPU of the device's; default: all of the machine
   * or of the device.
   */
  readonly memoryBytes?: number;
  /** Bytes for the pool, when `kvBlocks` is left out. */
  readonly kvBytes?: number;
  /** Most tokens in a step; default 256. A step of more tokens makes others wait longer. */
  readonly rowsMax?: number;
  /** Most sequences that run at once; default 64, at most `rowsMax`. */
  readonly runningMax?: number;
  /** Most sequences that wait for blocks or a place; default 256. */
  readonly waitingMax?: number;
  /** Clock in milliseconds; default `performance.now`. */
  readonly now?: () => number;
  /** Told about what went wrong without ending a sequence; default: nothing. */
  readonly onWarning?: (message: string, cause?: unknown) => void;
}

export interface EngineLimits {
  readonly threads: number;
  readonly kvBlocks: number;
  readonly rowsMax: number;
  readonly runningMax: number;
  readonly waitingMax: number;
}

/** Throws one `MeshError(invalidArgument)` that lists all faults. */
export function chooseLimits(
  options: EngineOptions,
  model: ModelFile,
  device?: CudaDevice,
): EngineLimits {
  const rowsMax = options.rowsMax ?? 256;
  const runningMax = options.runningMax ?? Math.min(64, rowsMax);
  const { memoryBytes } = options;
  const poolBytesMax = device
    ? Math.min(
      deviceKvBytes(device, model, { rowsMax, runningMax }),
      (memoryBytes ?? Infinity) - weightBytesOf(model),
    )
    : (memoryBytes ?? totalmem()) / 4;
  const limits = {
    threads: options.threads ?? Math.min(availableParallelism(), threadsMax),
    rowsMax,
    runningMax,
    waitingMax: options.waitingMax ?? 256,
    kvBlocks: options.kvBlocks ??
      defaultBlocks(options.kvBytes, { runningMax, poolBytesMax }, model),
  };
  const ranges: Record<keyof EngineLimits, number> = {
    threads: threadsMax,
    rowsMax: 65536,
    runningMax: rowsMax,
    waitingMax: 1e6,
    kvBlocks: 2 ** 30,
  };
  const faults = Object.entries(ranges).flatMap(([name, max]) => {
    const value = limits[name as keyof EngineLimits];
    if (Number.isInteger(value) && value >= 1 && value <= max) return [];
    return [`${name}: needs 1..${max}, found ${value}`];
  });
  if (faults.length === 0) return limits;
  throw new MeshError(
    Code.invalidArgument,
    `Cannot create an engine: ${faults.join("; ")}`,
  );
}

/** Tokens of the longest sequence: the file's context, or less where the pool is smaller. */
export function contextOf(
  { graph }: ModelFile,
  { kvBlocks }: Pick<EngineLimits, "kvBlocks">,
): number {
  return Math.min(graph.contextLength, kvBlocks * blockTokens);
}

/** What an engine with these options will be and take; known before anything is loaded. */
export function engineSize(
  options: EngineOptions,
  model: ModelFile,
): { contextLength: number; weightBytes: number; kvBytes: number } {
  const { native, backend, isa } = options;
  const { kvType } = model;
  const device = native &&
    chooseBackend({ backend, isa, kvType }, native).device;
  const { kvBlocks } = chooseLimits(options, model, device);
  return {
    contextLength: contextOf(model, { kvBlocks }),
    // Packed for the kernels they take about what they take in the file.
    weightBytes: weightBytesOf(model),
    kvBytes: kvBlocks * model.kvBlockBytes,
  };
}

function weightBytesOf({ graph }: ModelFile): number {
  return graph.weights.reduce((sum, { bytes }) => sum + bytes, 0);
}

export function chooseIsa(wanted: string | undefined, native: Native): Isa {
  const supported = native.isasSupported;
  if (wanted === undefined) return supported[supported.length - 1];
  const found = isas.find((isa) => isa === wanted && supported.includes(isa));
  if (found) return found;
  throw new MeshError(
    Code.failedPrecondition,
    `Cannot create an engine: isa: needs one of ${
      supported.join(", ")
    }, found ${wanted}`,
  );
}

const threadsMax = 256;

function defaultBlocks(
  kvBytes: number | undefined,
  { runningMax, poolBytesMax }: { runningMax: number; poolBytesMax: number },
  { graph, kvBlockBytes }: ModelFile,
): number {
  if (kvBytes !== undefined) return Math.floor(kvBytes / kvBlockBytes);
  const perContext = Math.ceil(graph.contextLength / blockTokens);
  const inMemory = Math.floor(poolBytesMax / kvBlockBytes);
  return Math.max(perContext, Math.min(perContext * runningMax, inMemory));
}

/**
 * The door to native code: nothing else loads it.
 *
 * `kernels/build.ts` makes `build/quetzal.node`; the environment variable
 * QUETZAL_ADDON names another one. Likewise QUETZAL_LIBCUDA names another driver than
 * libcuda.so.1, QUETZAL_CUDA_KERNELS another file than quetzal.fatbin beside it, and
 * QUETZAL_CUDA_GRAPHS how many graphs of steps a model keeps, if not 64.
 */
import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import type {
  Batch,
  CudaProbe,
  Isa,
  Native,
  NativeModel,
  NativeModelSpec,
  StepOutput,
  Target,
} from "../../lib/engine/native.ts";

/** What the addon exports. */
interface Addon {
  readonly isasSupported: readonly Isa[];
  loadModel(spec: NativeModelSpec): Promise<LoadedModel>;
  step(handle: unknown, batch: Batch): Promise<StepOutput>;
  closeModel(handle: unknown): Promise<void>;
  sleepModel(handle: unknown): Promise<void>;
  wakeModel(handle: unknown): Promise<void>;
  cudaSetup(
    setup: { library: string; fatbin: string; graphsMax: number },
  ): void;
  cudaProbe(): CudaProbe;
  crc32c(bytes: Uint8Array, plain?: boolean): number;
}

interface LoadedModel {
  readonly handle: unknown;
  /** The pool in pieces of `kvPieceBytes`, the last one shorter. */
  readonly kv: readonly ArrayBuffer[];
  readonly kvPieceBytes: number;
  readonly kvBlockBytes: number;
  readonly weightBytes: number;
}

/** Loads the addon; throws an `Error` that says how to build it when it is missing. */
export function loadNative(): Native {
  const addon = loadAddon();
  return {
    isasSupported: addon.isasSupported,
    crc32c: (bytes) => addon.crc32c(bytes),
    cuda: () => addon.cudaProbe(),
    async loadModel(spec) {
      return new AddonModel(addon, await addon.loadModel(spec), spec.isa);
    },
  };
}

/** The table-driven CRC-32C, which machines without SSE 4.2 use; for tests. */
export function crc32cPlain(bytes: Uint8Array): number {
  return loadAddon().crc32c(bytes, true);
}

function loadAddon(): Addon {
  const path = process.env.QUETZAL_ADDON ??
    fileURLToPath(new URL("../../build/quetzal.node", import.meta.url));
  if (!existsSync(path)) {
    throw new Error(
      `Cannot load native code: needs ${path}, found nothing there. Run: deno task kernels`,
    );
  }
  const addon: Addon = createRequire(import.meta.url)(path);
  addon.cudaSetup({
    library: process.env.QUETZAL_LIBCUDA ?? "libcuda.so.1",
    fatbin: process.env.QUETZAL_CUDA_KERNELS ??
      join(dirname(path), "quetzal.fatbin"),
    graphsMax: Number(process.env.QUETZAL_CUDA_GRAPHS ?? 64),
  });
  return addon;
}

/** What native code says when the device is gone; nothing but a new process helps. */
const lostDevice = / is lost \(/;

class AddonModel implements NativeModel {
  readonly isa: Target;
  readonly kv: Uint8Array;
  readonly kvBlockBytes: number;
  readonly weightBytes: number;
  readonly chainsSteps: boolean;
  fault: string | undefined;
  readonly #addon: Addon;
  readonly #handle: unknown;
  readonly #kvPieces: readonly Uint8Array[];
  readonly #blocksPerPiece: number;
  #closing: Promise<void> | undefined;

  constructor(addon: Addon, loaded: LoadedModel, isa: Target) {
    this.#addon = addon;
    this.#handle = loaded.handle;
    this.isa = isa;
    this.chainsSteps = isa === "cuda";
    this.#kvPieces = loaded.kv.map((piece) => new Uint8Array(piece));
    this.kv = this.#kvPieces.length === 1
      ? this.#kvPieces[0]
      : new Uint8Array(0);
    this.kvBlockBytes = loaded.kvBlockBytes;
    this.#blocksPerPiece = loaded.kvPieceBytes / loaded.kvBlockBytes;
    this.weightBytes = loaded.weightBytes;
  }

  kvBlock(blockId: number): Uint8Array {
    // Memory of a device that is gone must not be touched: the process would die.
    if (this.fault) throw new Error(this.fault);
    const piece = this.#kvPieces[Math.floor(blockId / this.#blocksPerPiece)];
    const begin = blockId % this.#blocksPerPiece * this.kvBlockBytes;
    return piece.subarray(begin, begin + this.kvBlockBytes);
  }

  async step(batch: Batch): Promise<StepOutput> {
    try {
      return await this.#addon.step(this.#handle, batch);
    } catch (reason) {
      throw this.#noted(reason);
    }
  }

  async sleep(): Promise<void> {
    try {
      await this.#addon.sleepModel(this.#handle);
    } catch (reason) {
      throw this.#noted(reason);
    }
  }

  async wake(): Promise<void> {
    try {
      await this.#addon.wakeModel(this.#handle);
    } catch (reason) {
      throw this.#noted(reason);
    }
  }

  /** Remembers that the device is gone. */
  #noted(reason: unknown): unknown {
    const { message } = reason as Error;
    if (lostDevice.test(message)) this.fault = message;
    return reason;
  }

  close(): Promise<void> {
    this.#closing ??= this.#addon.closeModel(this.#handle);
    return this.#closing;
  }
}

/**
 * The door to native code: nothing else loads it.
 *
 * `kernels/build.ts` makes `build/quetzal.node`; the environment variable
 * QUETZAL_ADDON names another one.
 */
import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import process from "node:process";
import { fileURLToPath } from "node:url";
import type {
  Batch,
  Isa,
  Native,
  NativeModel,
  NativeModelSpec,
  StepOutput,
} from "../../lib/engine/native.ts";

/** What the addon exports. */
interface Addon {
  readonly isasSupported: readonly Isa[];
  loadModel(spec: NativeModelSpec): Promise<LoadedModel>;
  step(handle: unknown, batch: Batch): Promise<StepOutput>;
  closeModel(handle: unknown): Promise<void>;
  crc32c(bytes: Uint8Array, plain?: boolean): number;
}

interface LoadedModel {
  readonly handle: unknown;
  readonly kv: ArrayBuffer;
  readonly kvBlockBytes: number;
  readonly weightBytes: number;
}

/** Loads the addon; throws an `Error` that says how to build it when it is missing. */
export function loadNative(): Native {
  const addon = loadAddon();
  return {
    isasSupported: addon.isasSupported,
    crc32c: (bytes) => addon.crc32c(bytes),
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
  return createRequire(import.meta.url)(path);
}

class AddonModel implements NativeModel {
  readonly isa: Isa;
  readonly kv: Uint8Array;
  readonly kvBlockBytes: number;
  readonly weightBytes: number;
  readonly #addon: Addon;
  readonly #handle: unknown;
  #closing: Promise<void> | undefined;

  constructor(addon: Addon, loaded: LoadedModel, isa: Isa) {
    this.#addon = addon;
    this.#handle = loaded.handle;
    this.isa = isa;
    this.kv = new Uint8Array(loaded.kv);
    this.kvBlockBytes = loaded.kvBlockBytes;
    this.weightBytes = loaded.weightBytes;
  }

  step(batch: Batch): Promise<StepOutput> {
    return this.#addon.step(this.#handle, batch);
  }

  close(): Promise<void> {
    this.#closing ??= this.#addon.closeModel(this.#handle);
    return this.#closing;
  }
}

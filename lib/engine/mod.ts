/** Quetzal's engine: one loaded model that runs sequences. */
import { Code, MeshError } from "../errors/mesh_error.ts";
import { type GgufFile, readGguf } from "../gguf/mod.ts";
import { blockTokens } from "./block_hash.ts";
import { chooseBackend } from "./backend.ts";
import { StepEngine } from "./engine.ts";
import {
  chooseLimits,
  contextOf,
  type EngineLimits,
  type EngineOptions,
} from "./engine_options.ts";
import { type ModelFile, openModel } from "./model_file.ts";
import type { Native, NativeModel, Target } from "./native.ts";
import type { Engine } from "./types.ts";

export { blockHashes, blockTokens, HashChain } from "./block_hash.ts";
export { type Backend, backends } from "./backend.ts";
export { type EngineOptions, engineSize } from "./engine_options.ts";
export { isUnchanged, type ModelFile, openModel } from "./model_file.ts";
export type * from "./native.ts";
export type * from "./types.ts";

/** Loads a model; rejects with a `MeshError` that says what the file lacks. */
export async function createEngine(options: EngineOptions): Promise<Engine> {
  const native = options.native ?? await loadAddon();
  const model = options.file ?? openModel(readHeader(options), options.kvType);
  const { backend, isa } = options;
  const { target, device } = chooseBackend(
    { backend, isa, kvType: model.kvType },
    native,
  );
  const limits = chooseLimits(options, model, device);
  return new StepEngine({
    ...limits,
    model: await loadModel(native, { model, target, limits }),
    device,
    fingerprint: model.fingerprint,
    kvType: model.kvType,
    contextLength: contextOf(model, limits),
    vocabSize: model.graph.vocabSize,
    hiddenSize: model.graph.hiddenSize,
    layers: model.graph.kv.layers,
    now: options.now ?? (() => performance.now()),
    onWarning: options.onWarning ?? (() => {}),
  });
}

/** Only who brings no native code of his own needs the addon to be built. */
async function loadAddon(): Promise<Native> {
  const { loadNative } = await import("../../kernels/addon/mod.ts");
  return loadNative();
}

function readHeader({ path, gguf }: EngineOptions): GgufFile {
  if (gguf) return gguf;
  if (path !== undefined) return readGguf(path);
  throw new MeshError(
    Code.invalidArgument,
    "Cannot create an engine: needs path or gguf, found neither",
  );
}

async function loadModel(
  native: Native,
  { model, target, limits }: {
    model: ModelFile;
    target: Target;
    limits: EngineLimits;
  },
): Promise<NativeModel> {
  const { gguf, graph } = model;
  try {
    return await native.loadModel({
      path: gguf.path,
      isa: target,
      threads: limits.threads,
      weights: graph.weights,
      program: graph.program,
      kv: {
        ...graph.kv,
        type: model.kvType,
        blockTokens,
        blocks: limits.kvBlocks,
      },
      rowsMax: limits.rowsMax,
      outRowsMax: limits.runningMax,
    });
  } catch (cause) {
    const detail = cause instanceof Error ? cause.message : String(cause);
    throw new MeshError(
      Code.failedPrecondition,
      `Cannot load model "${gguf.path}": ${detail}`,
      { cause },
    );
  }
}

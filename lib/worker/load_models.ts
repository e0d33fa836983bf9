import {
  blockTokens,
  createEngine,
  engineSize,
  isUnchanged,
  type Native,
  openModel,
} from "../engine/mod.ts";
import { Code, MeshError } from "../errors/mesh_error.ts";
import { readGguf } from "../gguf/mod.ts";
import type { GgufFile } from "../gguf/types.ts";
import { endIdsOf } from "../tokenizer/mod.ts";
import type { EngineConfig } from "./config.ts";
import {
  type ModelIdentity,
  type ServedModel,
  servedModel,
} from "./served_models.ts";

type Warn = (
  message: string,
  details: Readonly<Record<string, unknown>>,
) => void;

export interface LoadParts {
  readonly native: Native;
  readonly config: EngineConfig;
  /** What the models of the process may take together; bounds a pool that is not set. */
  readonly memoryBytes: number;
  readonly warn: Warn;
}

/**
 * A model whose file was read and checked, but of which nothing is loaded. It takes some
 * kilobytes, so that a sleeping model may wake without its header being read again.
 */
export interface PreparedModel {
  readonly identity: ModelIdentity;
  /** Loads the weights; may be called again after the engine was closed. */
  start(): Promise<ServedModel>;
}

/** Reads a GGUF file's header; throws a `MeshError` that says what does not fit. */
export function prepareModel(
  { name, path }: { readonly name: string; readonly path: string },
  { native, config, memoryBytes, warn }: LoadParts,
): PreparedModel {
  const file = openModel(readGguf(path), config.kvType);
  const options = {
    file,
    native,
    memoryBytes,
    threads: config.threads,
    isa: config.isa,
    backend: config.backend,
    kvBlocks: config.kvBlocks,
    rowsMax: config.batchTokens,
    runningMax: config.runningMax,
    waitingMax: config.waitingMax,
    packedCache: config.packedCache,
    onWarning: (message: string, cause: unknown) =>
      warn(message, { model: name, cause: String(cause) }),
  };
  let hasRun = false;
  let endIds: readonly number[] | undefined;
  return {
    identity: {
      fingerprint: file.fingerprint,
      blockTokens,
      ...engineSize(options, file),
    },
    async start() {
      // The mesh knows its blocks by the fingerprint, so another content is another model.
      if (hasRun && !isUnchanged(file)) throw changedFile(name, path);
      hasRun = true;
      const loading = createEngine(options);
      // Native threads load meanwhile.
      endIds ??= readEndIds(file.gguf, name, warn);
      return servedModel(name, await loading, endIds);
    },
  };
}

function changedFile(name: string, path: string): MeshError {
  return new MeshError(
    Code.failedPrecondition,
    `Cannot wake model "${name}": ${path} is no longer the file that was loaded; unload it first`,
    { field: "model" },
  );
}

/**
 * Workers handle ids, not text: of the tokenizer they need only which ids end an answer.
 * A file whose tokenizer is not known can still be run by id.
 */
function readEndIds(
  { metadata }: GgufFile,
  model: string,
  warn: Warn,
): readonly number[] {
  try {
    return endIdsOf(metadata);
  } catch (cause) {
    warn(
      "Answers of this model end at max_tokens only: its end tokens are not known",
      {
        model,
        cause: String(cause),
      },
    );
    return [];
  }
}

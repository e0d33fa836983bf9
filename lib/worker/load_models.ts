import { createEngine, type Native } from "../engine/mod.ts";
import { readGguf } from "../gguf/mod.ts";
import type { GgufFile } from "../gguf/types.ts";
import { createTokenizer } from "../tokenizer/mod.ts";
import type { EngineConfig, ModelSource } from "./config.ts";
import { type ServedModel, servedModel } from "./served_models.ts";

type Warn = (
  message: string,
  details: Readonly<Record<string, unknown>>,
) => void;

/** Reads a GGUF file and makes it ready to run; rejects with a `MeshError` that says why not. */
export async function loadModel(
  { name, path }: ModelSource,
  { native, config, warn }: {
    readonly native: Native;
    readonly config: EngineConfig;
    readonly warn: Warn;
  },
): Promise<ServedModel> {
  const gguf = readGguf(path);
  const engine = await createEngine({
    gguf,
    native,
    threads: config.threads,
    isa: config.isa,
    backend: config.backend,
    kvBlocks: config.kvBlocks,
    rowsMax: config.batchTokens,
    runningMax: config.runningMax,
    waitingMax: config.waitingMax,
    onWarning: (message, cause) =>
      warn(message, { model: name, cause: String(cause) }),
  });
  return servedModel(name, engine, endIdsOf(gguf, name, warn));
}

/**
 * Workers handle ids, not text: of the tokenizer they need only which ids end an answer.
 * A file whose tokenizer is not known can still be run by id.
 */
function endIdsOf(
  { metadata }: GgufFile,
  model: string,
  warn: Warn,
): readonly number[] {
  try {
    return createTokenizer(metadata).endIds;
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

/** A model that gives the log-probabilities of given text, on the fastest that there is. */
import {
  blockTokens,
  type KvType,
  type Native,
  openModel,
} from "../../lib/engine/mod.ts";
import { forcedLogprobs } from "../../lib/engine/testing/teacher_forcing.ts";
import { readGguf } from "../../lib/gguf/mod.ts";

/** For texts of up to `tokensMax` ids; the caller closes `model`. */
export async function loadForced(
  code: Native,
  path: string,
  tokensMax: number,
  kvType: KvType = "f16",
) {
  const { graph } = openModel(readGguf(path));
  const model = await code.loadModel({
    path,
    isa: code.isasSupported.at(-1)!,
    threads: 2,
    weights: graph.weights,
    program: graph.program,
    kv: {
      ...graph.kv,
      type: kvType,
      blockTokens,
      blocks: Math.ceil(tokensMax / blockTokens),
    },
    rowsMax: tokensMax,
    outRowsMax: tokensMax,
  });
  return {
    model,
    vocabSize: graph.vocabSize,
    logprobs: (ids: readonly number[]) =>
      forcedLogprobs(model, ids, graph.vocabSize),
  };
}

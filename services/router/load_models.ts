import { statSync } from "node:fs";
import { readGguf } from "../../lib/gguf/mod.ts";
import {
  createChatTemplate,
  createTokenizer,
  encodeChat,
} from "../../lib/tokenizer/mod.ts";
import type { ModelFile } from "./config.ts";
import type { ServedModel } from "./core/mod.ts";

/** Reads tokenizer, chat template and context length; the weights stay in the file. */
export async function loadModel(
  { name, path }: ModelFile,
): Promise<ServedModel> {
  const { metadata } = await readGguf(path);
  const tokenizer = createTokenizer(metadata);
  const template = createChatTemplate(metadata, tokenizer);
  const architecture = metadata.string("general.architecture");
  return {
    name,
    tokenizer,
    encodeChat: template &&
      ((messages, options) =>
        encodeChat(template, tokenizer, messages, options)),
    contextLength: metadata.integer(`${architecture}.context_length`),
    hiddenSize: metadata.integer(`${architecture}.embedding_length`),
    createdS: Math.floor(statSync(path).mtimeMs / 1_000),
  };
}

/**
 * Text to ids and back under a bound: a request may carry 8 MiB of text, and what
 * takes that long holds the router for seconds. No token stands for more than
 * `tokenBytesMax` bytes, so a text that cannot fit is refused by its length alone.
 */
import { Code } from "../../../lib/errors/mesh_error.ts";
import type { ChatInputMessage } from "./generation_input.ts";
import type { ServedModel } from "./model_catalog.ts";
import { RequestError } from "./request_error.ts";

export interface EncodeBounds {
  /** Tokens that a text may have. */
  readonly contextLength: number;
  /** The request's field, for refusals. */
  readonly field: string;
}

export function encodeText(
  text: string,
  { tokenizer }: ServedModel,
  { addSpecial = true, ...bounds }: EncodeBounds & {
    readonly addSpecial?: boolean;
  },
): Int32Array {
  refuseTooLong(text, tokenizer.tokenBytesMax, bounds);
  return tokenizer.encode(text, { addSpecial });
}

export function encodeChat(
  messages: readonly ChatInputMessage[],
  { name, tokenizer, encodeChat }: ServedModel,
  { addGenerationPrompt = true, ...bounds }: EncodeBounds & {
    readonly addGenerationPrompt?: boolean;
  },
): Int32Array {
  if (encodeChat === undefined) {
    throw new RequestError(
      Code.invalidArgument,
      `Cannot chat with "${name}": its file has no chat template, use a plain prompt`,
      { field: "messages" },
    );
  }
  return encodeChat(messages, {
    addGenerationPrompt,
    // What the template wrote counts: it may leave things out.
    checkText: (text) => refuseTooLong(text, tokenizer.tokenBytesMax, bounds),
  });
}

/** Ids of the vocabulary that fit, or an error that names the first one outside. */
export function encodeIds(
  ids: readonly number[],
  model: ServedModel,
  { contextLength, field }: EncodeBounds,
): Int32Array {
  if (ids.length > contextLength) {
    throw tooLong(`${ids.length} token ids`, { contextLength, field });
  }
  return checkedIds(ids, model, field);
}

/** Ids of the vocabulary, or an error that names the first one outside. */
export function checkedIds(
  ids: readonly number[],
  { name, tokenizer }: ServedModel,
  field: string,
): Int32Array {
  const bad = ids.find((id) => id < 0 || id >= tokenizer.vocabSize);
  if (bad === undefined) return Int32Array.from(ids);
  throw new RequestError(
    Code.invalidArgument,
    `Cannot use token id ${bad}: "${name}" has ids 0..${
      tokenizer.vocabSize - 1
    }`,
    { field, reason: "invalid_value" },
  );
}

function refuseTooLong(
  text: string,
  tokenBytesMax: number,
  bounds: EncodeBounds,
): void {
  const bytes = Buffer.byteLength(text);
  const idsMin = Math.ceil(bytes / tokenBytesMax);
  if (idsMin <= bounds.contextLength) return;
  throw tooLong(`${bytes} bytes of text are ${idsMin} tokens or more`, bounds);
}

function tooLong(
  found: string,
  { contextLength, field }: EncodeBounds,
): RequestError {
  return new RequestError(
    Code.invalidArgument,
    `Cannot fit the request: ${found}, the context length is ${contextLength} tokens`,
    { field, reason: "context_length_exceeded" },
  );
}

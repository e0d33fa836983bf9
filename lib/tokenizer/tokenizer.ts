import { Code, MeshError } from "../errors/mesh_error.ts";
import type { GgufMetadata } from "../gguf/types.ts";
import { createByteBpe } from "./byte_bpe.ts";
import { preTokenizer } from "./pre_tokenizers.ts";
import { createSpecialTokens } from "./special_tokens.ts";
import { createSpm, parseByte } from "./spm.ts";
import type { TokenModel } from "./token_model.ts";
import {
  createTokenStream,
  decodeBytes,
  type TokenPiece,
} from "./token_stream.ts";
import type { DecodeOptions, EncodeOptions, Tokenizer } from "./types.ts";
import {
  type DefaultIds,
  readEndIds,
  readVocabulary,
  tokenTypes,
  type Vocabulary,
} from "./vocabulary.ts";

/** The tokenizer of a GGUF file, with what chat encoding needs besides. */
export interface ModelTokenizer extends Tokenizer {
  /** Whether the file asks for begin-of-text first. */
  readonly addsBos: boolean;
  /** The text of every control token, which user text must not forge. */
  readonly controlTexts: readonly string[];
  /** The name under `tokenizer.ggml.pre`; "default" where the file has none. */
  readonly preTokenizer: string | undefined;
  /** The file names no pre-tokenizer, so that quality may suffer. */
  readonly preTokenizerAssumed: boolean;
  /** The text of a token as the vocabulary spells it. */
  tokenText(id: number): string | undefined;
}

interface Parts {
  vocabulary: Vocabulary;
  model: TokenModel;
  addsBos: boolean;
  preTokenizer?: string;
  preTokenizerAssumed?: boolean;
}

interface Family {
  readonly parts: (metadata: GgufMetadata) => Parts;
  readonly defaults: DefaultIds;
}

const spmIds: DefaultIds = { unknown: 0, bos: 1, eos: 2 };

const families: Readonly<Record<string, Family>> = {
  gpt2: { parts: bytePairParts, defaults: {} },
  llama: { parts: spmParts, defaults: spmIds },
};

/** Makes the tokenizer that the metadata describes. */
export function createTokenizer(metadata: GgufMetadata): ModelTokenizer {
  const parts = familyOf(metadata).parts(metadata);
  const addsEos = metadata.boolean("tokenizer.ggml.add_eos_token", false);
  return assemble(parts, addsEos);
}

/** `createTokenizer(metadata).endIds`, without making a tokenizer. */
export function endIdsOf(metadata: GgufMetadata): readonly number[] {
  return readEndIds(metadata, familyOf(metadata).defaults);
}

function familyOf(metadata: GgufMetadata): Family {
  const name = metadata.string("tokenizer.ggml.model");
  const family = Object.hasOwn(families, name) ? families[name] : undefined;
  if (family === undefined) {
    throw new MeshError(
      Code.invalidArgument,
      `Cannot make a tokenizer: tokenizer.ggml.model needs one of ` +
        `${Object.keys(families).join(", ")}; found "${name}"`,
      { field: "tokenizer.ggml.model" },
    );
  }
  return family;
}

function bytePairParts(metadata: GgufMetadata): Parts {
  const pre = preTokenizer(metadata.string("tokenizer.ggml.pre", "default"));
  const vocabulary = readVocabulary(metadata, {});
  return {
    vocabulary,
    model: createByteBpe(metadata, vocabulary, pre),
    addsBos: metadata.boolean("tokenizer.ggml.add_bos_token", pre.addBos),
    preTokenizer: pre.name,
    preTokenizerAssumed: metadata.get("tokenizer.ggml.pre") === undefined,
  };
}

function spmParts(metadata: GgufMetadata): Parts {
  const vocabulary = readVocabulary(metadata, spmIds);
  return {
    vocabulary,
    model: createSpm(metadata, vocabulary),
    addsBos: metadata.boolean("tokenizer.ggml.add_bos_token", true),
  };
}

function assemble(parts: Parts, addsEos: boolean): ModelTokenizer {
  const { vocabulary, model } = parts;
  const special = createSpecialTokens(vocabulary);
  const addsBos = parts.addsBos && vocabulary.bosId !== undefined;
  const pieces = new Map<number, TokenPiece>();
  const none: TokenPiece = { bytes: new Uint8Array(0), text: "" };

  function encode(text: string, options: EncodeOptions = {}): Int32Array {
    const { addSpecial = true, parseSpecial = false, plainRanges } = options;
    // A lone surrogate has no UTF-8; both sides read it as U+FFFD.
    const whole = text.toWellFormed();
    const ids: number[] = addSpecial && addsBos ? [vocabulary.bosId!] : [];
    let at = 0;
    let first = true;
    for (
      const { start, end, id } of special.find(whole, {
        control: parseSpecial,
        plain: plainRanges,
      })
    ) {
      if (start > at) model.encode(whole.slice(at, start), first, ids);
      ids.push(id);
      at = end;
      first = true;
    }
    if (at < whole.length) model.encode(whole.slice(at), first, ids);
    if (addSpecial && addsEos && vocabulary.eosId !== undefined) {
      ids.push(vocabulary.eosId);
    }
    return Int32Array.from(ids);
  }

  function pieceOf(
    id: number,
    options: { special?: boolean } = {},
  ): TokenPiece {
    const type = vocabulary.types[id];
    const hidden = type === undefined || type === tokenTypes.unused ||
      (!options.special &&
        (type === tokenTypes.control || type === tokenTypes.unknown));
    if (hidden) return none;
    let piece = pieces.get(id);
    if (piece === undefined) {
      const bytes = rawBytes(parts, id);
      pieces.set(id, piece = { bytes, text: wholeText(bytes) });
    }
    return piece;
  }

  const stream = (options: DecodeOptions = {}) =>
    createTokenStream({
      pieceOf: (id) => pieceOf(id, options),
      dropSpace: model.addsSpace && !options.continues,
    });

  return {
    vocabSize: vocabulary.tokens.length,
    // The vocabulary's spelling of a token has at least the token's bytes.
    tokenBytesMax: vocabulary.tokens.reduce(
      (most, text) => Math.max(most, Buffer.byteLength(text)),
      1,
    ),
    bosId: vocabulary.bosId,
    eosId: vocabulary.eosId,
    endIds: vocabulary.endIds,
    addsBos,
    controlTexts: special.controlTexts,
    preTokenizer: parts.preTokenizer,
    preTokenizerAssumed: parts.preTokenizerAssumed ?? false,
    encode,
    decode: (ids, options = {}) =>
      decodeBytes(
        Array.from(ids, (id) => pieceOf(id, options).bytes),
        model.addsSpace && !options.continues,
      ),
    tokenBytes: (id, options) => pieceOf(id, options).bytes,
    stream,
    tokenText: (id) => vocabulary.tokens[id],
  };
}

const utf8 = new TextEncoder();
const strictUtf8 = new TextDecoder("utf-8", { ignoreBOM: true, fatal: true });

function wholeText(bytes: Uint8Array): string | undefined {
  try {
    return strictUtf8.decode(bytes);
  } catch {
    return undefined;
  }
}

/** Special tokens are spelled as they are; a byte token is its byte. */
function rawBytes({ vocabulary, model }: Parts, id: number): Uint8Array {
  const type = vocabulary.types[id];
  const text = vocabulary.tokens[id]!;
  if (type === tokenTypes.byte) return Uint8Array.of(parseByte(text, id));
  const spelled = type === tokenTypes.control || type === tokenTypes.unknown ||
    type === tokenTypes.userDefined;
  return spelled ? utf8.encode(text) : model.bytesOf(id);
}

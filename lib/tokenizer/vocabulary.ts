import { Code, MeshError } from "../errors/mesh_error.ts";
import type { GgufMetadata } from "../gguf/types.ts";

/** Values of `tokenizer.ggml.token_type`. */
export const tokenTypes = {
  normal: 1,
  unknown: 2,
  control: 3,
  userDefined: 4,
  unused: 5,
  byte: 6,
} as const;

/** The tokens of one model and which of them are special. */
export interface Vocabulary {
  readonly tokens: readonly string[];
  readonly types: ArrayLike<number>;
  readonly idOf: ReadonlyMap<string, number>;
  readonly bosId: number | undefined;
  readonly eosId: number | undefined;
  readonly unknownId: number | undefined;
  readonly endIds: readonly number[];
}

/**
 * Texts that end a turn in one family or another. A file that calls such a token
 * "normal" is mistaken: it is control, or user text could end the turn.
 */
const endTexts: ReadonlySet<string> = new Set([
  "<|im_end|>",
  "<|eot_id|>",
  "<|eom_id|>",
  "<|end|>",
  "<|return|>",
  "<|call|>",
  "<|endoftext|>",
  "<|end_of_text|>",
  "<end_of_turn>",
  "<end_of_utterance>",
  "<｜end▁of▁sentence｜>",
  "</s>",
  "<eos>",
  "<EOT>",
  "[EOT]",
  "[EOS]",
]);

/** Texts that open a turn; control for the same reason. */
const turnTexts: ReadonlySet<string> = new Set([
  "<|im_start|>",
  "<|start_header_id|>",
  "<|end_header_id|>",
  "<start_of_turn>",
]);

/** Ids that hold where a file names none, as the SPM models of old expect. */
export interface DefaultIds {
  bos?: number;
  eos?: number;
  unknown?: number;
}

export function readVocabulary(
  metadata: GgufMetadata,
  defaults: DefaultIds,
): Vocabulary {
  const tokens = metadata.strings("tokenizer.ggml.tokens");
  const idOf = indexTokens(tokens);
  const types = readTypes(metadata, tokens);
  const specialId = specialIds(metadata, tokens.length);
  return {
    tokens,
    types,
    idOf,
    bosId: specialId("bos", defaults.bos),
    eosId: specialId("eos", defaults.eos),
    unknownId: specialId("unknown", defaults.unknown),
    endIds: findEndIds(namedEnds(specialId, defaults), idOf),
  };
}

/** `endIds` of the vocabulary alone: a fraction of the time, for who handles ids, not text. */
export function readEndIds(
  metadata: GgufMetadata,
  defaults: DefaultIds,
): readonly number[] {
  const tokens = metadata.strings("tokenizer.ggml.tokens");
  const idOf = new Map<string, number>();
  tokens.forEach((text, id) => {
    if (endTexts.has(text)) idOf.set(text, id);
  });
  const specialId = specialIds(metadata, tokens.length);
  return findEndIds(namedEnds(specialId, defaults), idOf);
}

type SpecialIds = (name: string, fallback?: number) => number | undefined;

function specialIds(metadata: GgufMetadata, count: number): SpecialIds {
  return (name, fallback) =>
    readId(metadata, `tokenizer.ggml.${name}_token_id`, count) ??
      (fallback !== undefined && fallback < count ? fallback : undefined);
}

function namedEnds(specialId: SpecialIds, { eos }: DefaultIds) {
  return [specialId("eos", eos), specialId("eot"), specialId("eom")];
}

function indexTokens(tokens: readonly string[]): Map<string, number> {
  const idOf = new Map<string, number>();
  tokens.forEach((text, id) => {
    const before = idOf.get(text);
    if (before !== undefined && text !== "") {
      throw refused(
        "tokens",
        "each text once",
        `${JSON.stringify(text)} as ${before} and ${id}`,
      );
    }
    if (text !== "") idOf.set(text, id);
  });
  return idOf;
}

function readTypes(
  metadata: GgufMetadata,
  tokens: readonly string[],
): Uint8Array {
  const declared = metadata.get("tokenizer.ggml.token_type");
  const types = new Uint8Array(tokens.length).fill(tokenTypes.normal);
  if (declared !== undefined) {
    if (
      !(declared instanceof Int32Array) && !(declared instanceof Uint32Array)
    ) {
      throw refused("token_type", "an array of i32", typeof declared);
    }
    if (declared.length < tokens.length) {
      throw refused(
        "token_type",
        `${tokens.length} types`,
        `${declared.length}`,
      );
    }
    for (let id = 0; id < types.length; id++) types[id] = declared[id]!;
  }
  tokens.forEach((text, id) => {
    if (endTexts.has(text) || turnTexts.has(text)) {
      types[id] = tokenTypes.control;
    }
  });
  return types;
}

/** A special id; one outside the vocabulary counts as absent, as padding ids often are. */
function readId(
  metadata: GgufMetadata,
  key: string,
  count: number,
): number | undefined {
  if (metadata.get(key) === undefined) return undefined;
  const id = metadata.integer(key);
  return id >= 0 && id < count ? id : undefined;
}

function findEndIds(
  named: readonly (number | undefined)[],
  idOf: ReadonlyMap<string, number>,
): number[] {
  const ids = new Set<number>();
  for (const id of named) if (id !== undefined) ids.add(id);
  // In the harmony format `<|end|>` closes a message, and `<|return|>` the answer.
  const harmony = idOf.has("<|return|>") && idOf.has("<|call|>");
  for (const text of endTexts) {
    const id = idOf.get(text);
    if (id !== undefined && !(harmony && text === "<|end|>")) ids.add(id);
  }
  return [...ids].sort((a, b) => a - b);
}

export function refused(
  key: string,
  expected: string,
  found: string,
): MeshError {
  return new MeshError(
    Code.invalidArgument,
    `Cannot make a tokenizer: tokenizer.ggml.${key} needs ${expected}, found ${found}`,
    { field: `tokenizer.ggml.${key}` },
  );
}

/**
 * Vocabularies for tests, learned from the test strings without pre-tokenizing.
 *
 * Their merges reach over spaces, digits and letters alike, so that nearly every
 * wrong cut changes ids; a real vocabulary would hide most of them.
 */
import { gguf, writeGguf, type WriteValue } from "../../lib/gguf/mod.ts";
import { charOfByte } from "../../lib/tokenizer/byte_alphabet.ts";

export const specialTexts = [
  "<|begin|>",
  "<|im_start|>",
  "<|im_end|>",
  "<|tool|>",
];
export const userDefinedTexts = ["<think>", "</think>", "<tool_call>"];

const normal = 1;
const unknown = 2;
const control = 3;
const userDefined = 4;
const byte = 6;

/** Shape keys llama.cpp wants even of a file that is only read for its vocabulary. */
const shape: Readonly<Record<string, WriteValue>> = {
  "general.architecture": gguf.string("llama"),
  "general.name": gguf.string("vocabulary"),
  "llama.context_length": gguf.u32(256),
  "llama.embedding_length": gguf.u32(64),
  "llama.block_count": gguf.u32(1),
  "llama.feed_forward_length": gguf.u32(64),
  "llama.attention.head_count": gguf.u32(1),
  "llama.attention.head_count_kv": gguf.u32(1),
  "llama.attention.layer_norm_rms_epsilon": gguf.f32(1e-5),
};

/** Writes a byte-BPE vocabulary under the given pre-tokenizer name. */
export function writeBpeVocabulary(
  path: string,
  pre: string | undefined,
  merges: Merge[],
): void {
  const pieces = [...charOfByte, ...merges.map(([a, b]) => a + b)];
  const tokens = [...new Set(pieces), ...specialTexts, ...userDefinedTexts];
  const bosId = tokens.indexOf("<|begin|>");
  writeGguf(path, {
    metadata: {
      ...shape,
      "tokenizer.ggml.model": gguf.string("gpt2"),
      ...(pre === undefined ? {} : { "tokenizer.ggml.pre": gguf.string(pre) }),
      "tokenizer.ggml.tokens": gguf.array("string", tokens),
      "tokenizer.ggml.token_type": gguf.array("i32", tokens.map(typeOf)),
      "tokenizer.ggml.merges": gguf.array(
        "string",
        merges.map((pair) => pair.join(" ")),
      ),
      "tokenizer.ggml.bos_token_id": gguf.u32(bosId),
      "tokenizer.ggml.eos_token_id": gguf.u32(tokens.indexOf("<|im_end|>")),
    },
  });
}

/** Writes an SPM vocabulary: bytes, then pieces with falling scores. */
export function writeSpmVocabulary(path: string, merges: Merge[]): void {
  const bytes = Array.from(
    { length: 256 },
    (_, value) => `<0x${value.toString(16).toUpperCase().padStart(2, "0")}>`,
  );
  // llama.cpp reads a token as a C string, so one with U+0000 cannot be compared.
  const pieces = new Set(
    merges.flatMap(([a, b]) => [...(a + b), a + b]).filter((piece) =>
      !piece.includes("\0")
    ),
  );
  const tokens = [
    "<unk>",
    "<s>",
    "</s>",
    ...bytes,
    ...pieces,
    "<|im_end|>",
    "<think>",
  ];
  const types = tokens.map((text, id) =>
    id === 0 ? unknown : id < 3 ? control : id < 259 ? byte : typeOf(text)
  );
  writeGguf(path, {
    metadata: {
      ...shape,
      "tokenizer.ggml.model": gguf.string("llama"),
      "tokenizer.ggml.tokens": gguf.array("string", tokens),
      "tokenizer.ggml.token_type": gguf.array("i32", types),
      // Pairs of neighbours share a score, so that ties occur.
      "tokenizer.ggml.scores": gguf.array(
        "f32",
        tokens.map((_, id) => -Math.floor(id / 2)),
      ),
      "tokenizer.ggml.bos_token_id": gguf.u32(1),
      "tokenizer.ggml.eos_token_id": gguf.u32(2),
      "tokenizer.ggml.unknown_token_id": gguf.u32(0),
    },
  });
}

function typeOf(text: string): number {
  if (specialTexts.includes(text)) return control;
  return userDefinedTexts.includes(text) ? userDefined : normal;
}

export type Merge = [left: string, right: string];

const utf8 = new TextEncoder();

/** A text as symbols of the byte alphabet. */
export const byteSymbols = (text: string): string[] =>
  [...utf8.encode(text)].map((value) => charOfByte[value]!);

/** A text as characters, spaces as U+2581. */
export const blankSymbols = (
  text: string,
): string[] => [...` ${text}`.replaceAll(" ", "\u2581")];

export interface LearnOptions {
  rounds: number;
  mergesPerRound: number;
  /** Longest token, in symbols of the alphabet. */
  longest?: number;
}

/** Learns merges in rounds: each adds the most frequent neighbours of the last. */
export function learnMerges(
  texts: readonly string[],
  toSymbols: (text: string) => string[],
  { rounds, mergesPerRound, longest = 16 }: LearnOptions,
): Merge[] {
  const known = new Set<string>();
  const merges: Merge[] = [];
  let lines = texts.map((text) => toSymbols(text.toWellFormed()));
  for (let round = 0; round < rounds; round++) {
    const fresh = frequentPairs(lines, longest).filter(([a, b]) =>
      !known.has(a + b)
    );
    const chosen = new Set<string>();
    for (const [a, b] of fresh) {
      if (chosen.size === mergesPerRound) break;
      if (known.has(a + b)) continue;
      known.add(a + b);
      chosen.add(a + b);
      merges.push([a, b]);
    }
    lines = lines.map((line) => join(line, chosen));
  }
  return merges;
}

function frequentPairs(lines: readonly string[][], longest: number): Merge[] {
  const counts = new Map<string, { pair: Merge; count: number }>();
  for (const line of lines) {
    for (let i = 1; i < line.length; i++) {
      const pair: Merge = [line[i - 1]!, line[i]!];
      if (pair[0].length + pair[1].length > longest) continue;
      const key = pair.join(" ");
      const entry = counts.get(key);
      if (entry === undefined) counts.set(key, { pair, count: 1 });
      else entry.count++;
    }
  }
  const byCount = [...counts.values()].sort((a, b) => b.count - a.count);
  return byCount.map(({ pair }) => pair);
}

function join(line: string[], chosen: ReadonlySet<string>): string[] {
  const joined: string[] = [];
  for (const symbol of line) {
    const last = joined.at(-1);
    if (last !== undefined && chosen.has(last + symbol)) {
      joined[joined.length - 1] = last + symbol;
    } else joined.push(symbol);
  }
  return joined;
}

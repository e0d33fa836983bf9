/**
 * Byte-level BPE: text is cut into pieces, a piece becomes bytes, and the adjacent
 * pair with the lowest rank merges (leftmost first) until none is left.
 *
 * Symbols are ids in a linked list, candidates sit in a heap keyed by rank and
 * position, so a piece of n bytes costs O(n log n) whatever it holds. Short pieces
 * repeat, so their ids are kept in a bounded cache.
 * Invariant: a heap entry counts only while the pair at its position has its rank.
 */
import type { GgufMetadata } from "../gguf/types.ts";
import { charOfByte, spellBytes, unspellBytes } from "./byte_alphabet.ts";
import { NumberHeap } from "./number_heap.ts";
import { PairTable } from "./pair_table.ts";
import type { PreTokenizer } from "./pre_tokenizers.ts";
import type { TokenModel } from "./token_model.ts";
import { refused, type Vocabulary } from "./vocabulary.ts";

const cachedPiecesMax = 1 << 15;
const cachedPieceLengthMax = 32;
/** Positions in a heap key; a piece is cut there at the latest. */
const pieceBytesMax = 2 ** 27;

const utf8 = new TextEncoder();

export function createByteBpe(
  metadata: GgufMetadata,
  vocabulary: Vocabulary,
  pre: PreTokenizer,
): TokenModel {
  const merges = readMerges(metadata, vocabulary);
  const merge = createMerger(merges);
  const cache = new Map<string, Int32Array>();

  function encodePiece(piece: string): Int32Array {
    const bytes = utf8.encode(piece);
    if (pre.ignoreMerges) {
      const whole = vocabulary.idOf.get(spellBytes(bytes));
      if (whole !== undefined) return Int32Array.of(whole);
    }
    return merge(bytes);
  }

  function cachedPiece(piece: string): Int32Array {
    if (piece.length > cachedPieceLengthMax) return encodePiece(piece);
    let ids = cache.get(piece);
    if (ids === undefined) {
      ids = encodePiece(piece);
      if (cache.size === cachedPiecesMax) cache.clear();
      cache.set(piece, ids);
    }
    return ids;
  }

  return {
    addsSpace: false,
    encode(text, _first, ids) {
      const ends: number[] = [];
      pre.split(text, 0, text.length, ends);
      let start = 0;
      for (const end of ends) {
        for (const id of cachedPiece(text.slice(start, end))) ids.push(id);
        start = end;
      }
    },
    bytesOf: (id) => unspellBytes(vocabulary.tokens[id]!),
  };
}

interface Merges {
  readonly pairs: PairTable;
  /** Symbol of each byte. */
  readonly byteSymbols: Int32Array;
  readonly tokenCount: number;
  /** What a symbol that is no token comes out as. */
  readonly fallbacks: readonly (readonly number[])[];
}

/**
 * Merges by id. A part or a result which is no token (some files have such
 * merges) gets a symbol number behind the vocabulary, and comes out as bytes.
 */
function readMerges(metadata: GgufMetadata, vocabulary: Vocabulary): Merges {
  const lines = metadata.strings("tokenizer.ggml.merges");
  const pairs = new PairTable(lines.length);
  const fallbacks: number[][] = [];
  const extra = new Map<string, number>();
  const symbolOf = (text: string) => {
    const known = vocabulary.idOf.get(text) ?? extra.get(text);
    if (known !== undefined) return known;
    const symbol = vocabulary.tokens.length + fallbacks.length;
    extra.set(text, symbol);
    fallbacks.push(
      [...text].flatMap((char) => vocabulary.idOf.get(char) ?? []),
    );
    return symbol;
  };
  const byteSymbols = Int32Array.from(charOfByte, symbolOf);
  lines.forEach((line, rank) => {
    const gap = line.indexOf(" ", 1);
    if (gap < 0 || gap === line.length - 1) {
      throw refused(
        "merges",
        'two parts: "a b"',
        `${JSON.stringify(line)} at ${rank}`,
      );
    }
    const left = line.slice(0, gap);
    const right = line.slice(gap + 1);
    pairs.add(symbolOf(left), symbolOf(right), rank, symbolOf(left + right));
  });
  return {
    pairs,
    byteSymbols,
    tokenCount: vocabulary.tokens.length,
    fallbacks,
  };
}

function createMerger({ pairs, byteSymbols, tokenCount, fallbacks }: Merges) {
  const heap = new NumberHeap();
  let symbols = new Int32Array(256);
  let next = new Int32Array(256);
  let previous = new Int32Array(256);

  function reserve(count: number): void {
    if (count <= symbols.length) return;
    symbols = new Int32Array(count);
    next = new Int32Array(count);
    previous = new Int32Array(count);
  }

  function offer(at: number): void {
    const right = at < 0 ? -1 : next[at]!;
    if (right < 0) return;
    const rank = pairs.rank(symbols[at]!, symbols[right]!);
    if (rank >= 0) heap.push(rank * pieceBytesMax + at);
  }

  function mergeAll(): void {
    while (heap.size > 0) {
      const key = heap.pop();
      const at = key % pieceBytesMax;
      const right = next[at]!;
      if (symbols[at]! < 0 || right < 0) continue;
      const rank = pairs.rank(symbols[at]!, symbols[right]!);
      if (rank < 0 || rank * pieceBytesMax + at !== key) continue;
      symbols[at] = pairs.merged(symbols[at]!, symbols[right]!);
      symbols[right] = -1;
      next[at] = next[right]!;
      if (next[at]! >= 0) previous[next[at]!] = at;
      offer(previous[at]!);
      offer(at);
    }
  }

  function collect(): Int32Array {
    const ids: number[] = [];
    for (let at = 0; at >= 0; at = next[at]!) {
      const symbol = symbols[at]!;
      if (symbol < tokenCount) ids.push(symbol);
      else for (const id of fallbacks[symbol - tokenCount]!) ids.push(id);
    }
    return Int32Array.from(ids);
  }

  return (bytes: Uint8Array): Int32Array => {
    const count = bytes.length;
    if (count === 0) return new Int32Array(0);
    if (count > pieceBytesMax) {
      throw refused(
        "model",
        `pieces of at most ${pieceBytesMax} bytes`,
        `${count}`,
      );
    }
    reserve(count);
    for (let at = 0; at < count; at++) {
      symbols[at] = byteSymbols[bytes[at]!]!;
      previous[at] = at - 1;
      next[at] = at + 1 < count ? at + 1 : -1;
    }
    heap.clear();
    for (let at = 0; at + 1 < count; at++) offer(at);
    mergeAll();
    return collect();
  };
}

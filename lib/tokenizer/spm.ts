/**
 * SPM: spaces become U+2581, and from single characters on, the adjacent pair
 * whose text is the token with the highest score merges (leftmost first). What is
 * no token in the end is written as byte tokens, `<0x41>`.
 *
 * Symbols are slices of the text in a linked list, candidates sit in a heap, and no
 * text longer than the longest token is looked up: O(n log n) for any text.
 * Invariant: a heap entry counts only while both its symbols have kept their length.
 */
import type { GgufMetadata } from "../gguf/types.ts";
import type { TokenModel } from "./token_model.ts";
import { refused, tokenTypes, type Vocabulary } from "./vocabulary.ts";

const blank = "\u2581";
const utf8 = new TextEncoder();

interface Candidate {
  readonly left: number;
  readonly right: number;
  readonly score: number;
  /** Length of both symbols together, in code units. */
  readonly length: number;
}

export function createSpm(
  metadata: GgufMetadata,
  vocabulary: Vocabulary,
): TokenModel {
  const scores = readScores(metadata, vocabulary);
  const addsSpace = metadata.boolean("tokenizer.ggml.add_space_prefix", true);
  const longest = vocabulary.tokens.reduce(
    (most, text) => Math.max(most, text.length),
    0,
  );
  const byteIds = Array.from(
    { length: 256 },
    (_, byte) => byteId(vocabulary, byte),
  );

  function segment(text: string, ids: number[]): void {
    const starts: number[] = [];
    for (let at = 0; at < text.length;) {
      starts.push(at);
      at += text.codePointAt(at)! > 0xffff ? 2 : 1;
    }
    const count = starts.length;
    const lengths = Int32Array.from(
      starts,
      (at, i) => (starts[i + 1] ?? text.length) - at,
    );
    const next = Int32Array.from(starts, (_, i) => i + 1 < count ? i + 1 : -1);
    const previous = Int32Array.from(starts, (_, i) => i - 1);
    const heap: Candidate[] = [];

    const offer = (left: number, right: number) => {
      if (left < 0 || right < 0) return;
      const length = lengths[left]! + lengths[right]!;
      if (length > longest) return;
      const id = vocabulary.idOf.get(
        text.slice(starts[left]!, starts[left]! + length),
      );
      if (id !== undefined) {
        push(heap, { left, right, score: scores[id]!, length });
      }
    };

    for (let at = 1; at < count; at++) offer(at - 1, at);
    while (heap.length > 0) {
      const { left, right, length } = pop(heap);
      const stale = lengths[left] === 0 || lengths[right] === 0 ||
        lengths[left]! + lengths[right]! !== length;
      if (stale) continue;
      lengths[left] = length;
      lengths[right] = 0;
      next[left] = next[right]!;
      if (next[left]! >= 0) previous[next[left]!] = left;
      offer(previous[left]!, left);
      offer(left, next[left]!);
    }
    for (let at = 0; at >= 0 && at < count; at = next[at]!) {
      emit(text.slice(starts[at]!, starts[at]! + lengths[at]!), ids);
    }
  }

  function emit(symbol: string, ids: number[]): void {
    const id = vocabulary.idOf.get(symbol);
    if (id !== undefined) {
      ids.push(id);
      return;
    }
    for (const byte of utf8.encode(symbol)) {
      const fallback = byteIds[byte] ?? vocabulary.unknownId;
      if (fallback !== undefined) ids.push(fallback);
    }
  }

  return {
    addsSpace,
    encode(text, first, ids) {
      const prefixed = addsSpace && first ? " " + text : text;
      segment(prefixed.replaceAll(" ", blank), ids);
    },
    bytesOf(id) {
      const text = vocabulary.tokens[id]!;
      if (vocabulary.types[id] === tokenTypes.byte) {
        return Uint8Array.of(parseByte(text, id));
      }
      return utf8.encode(text.replaceAll(blank, " "));
    },
  };
}

function readScores(
  metadata: GgufMetadata,
  vocabulary: Vocabulary,
): ArrayLike<number> {
  const scores = metadata.get("tokenizer.ggml.scores");
  if (
    !(scores instanceof Float32Array) ||
    scores.length < vocabulary.tokens.length
  ) {
    const found = scores instanceof Float32Array
      ? `${scores.length}`
      : typeof scores;
    throw refused("scores", `${vocabulary.tokens.length} f32 scores`, found);
  }
  return scores;
}

function byteId(vocabulary: Vocabulary, byte: number): number | undefined {
  const hex = byte.toString(16).toUpperCase().padStart(2, "0");
  return vocabulary.idOf.get(`<0x${hex}>`) ??
    (byte < 128 ? vocabulary.idOf.get(String.fromCharCode(byte)) : undefined);
}

/** The byte that `<0x41>` stands for. */
export function parseByte(text: string, id: number): number {
  const match = /^<0x([0-9A-Fa-f]{2})>$/.exec(text);
  if (match === null) {
    throw refused("tokens", 'a byte token "<0x41>"', `"${text}" as ${id}`);
  }
  return Number.parseInt(match[1]!, 16);
}

function before(a: Candidate, b: Candidate): boolean {
  return a.score > b.score || (a.score === b.score && a.left < b.left);
}

function push(heap: Candidate[], item: Candidate): void {
  let at = heap.push(item) - 1;
  while (at > 0) {
    const parent = (at - 1) >> 1;
    if (!before(item, heap[parent]!)) break;
    heap[at] = heap[parent]!;
    at = parent;
  }
  heap[at] = item;
}

function pop(heap: Candidate[]): Candidate {
  const best = heap[0]!;
  const last = heap.pop()!;
  if (heap.length === 0) return best;
  let at = 0;
  for (;;) {
    let child = 2 * at + 1;
    if (child >= heap.length) break;
    if (child + 1 < heap.length && before(heap[child + 1]!, heap[child]!)) {
      child++;
    }
    if (!before(heap[child]!, last)) break;
    heap[at] = heap[child]!;
    at = child;
  }
  heap[at] = last;
  return best;
}

import { TextTrie } from "./text_trie.ts";
import { tokenTypes, type Vocabulary } from "./vocabulary.ts";

/** A special token found in a text. */
export interface SpecialMatch {
  readonly start: number;
  readonly end: number;
  readonly id: number;
}

/** A stretch of text, `[start, end)` in UTF-16 units. */
export type TextRange = readonly [start: number, end: number];

export interface FindOptions {
  /** Control tokens too; user-defined ones are always found. */
  control: boolean;
  /** Where no control token may be found or begin or end. */
  plain?: readonly TextRange[];
}

export interface SpecialTokens {
  /** Texts of the control tokens. */
  readonly controlTexts: readonly string[];
  /** Special tokens in text order, none overlapping another. */
  find(text: string, options: FindOptions): SpecialMatch[];
}

/**
 * Finds special tokens in text: the longest texts first over the whole text, and
 * of one text the leftmost first, as llama.cpp does.
 */
export function createSpecialTokens(vocabulary: Vocabulary): SpecialTokens {
  const isControl = (id: number) =>
    vocabulary.types[id] === tokenTypes.control ||
    vocabulary.types[id] === tokenTypes.unknown;
  const trie = new TextTrie<Special>();
  const controlTexts: string[] = [];
  vocabulary.tokens.forEach((text, id) => {
    const control = isControl(id);
    if (
      text === "" ||
      !(control || vocabulary.types[id] === tokenTypes.userDefined)
    ) return;
    if (control) controlTexts.push(text);
    trie.add(text, { id, control });
  });

  return {
    controlTexts,
    find(text, { control, plain = [] }) {
      const longestAt = (start: number, lengthMax = Infinity) =>
        trie.longestAt(text, start, (special, length) => {
          if (length > lengthMax) return false;
          if (!special.control) return true;
          return control && !touches(plain, start, start + length);
        });
      const found: SpecialMatch[] = [];
      let taken = 0;
      for (let start = 0; start < text.length; start++) {
        const match = longestAt(start);
        if (match === undefined) continue;
        if (start < taken) {
          return longestFirst(text.length, trie.lengths, longestAt);
        }
        taken = start + match.length;
        found.push({ start, end: taken, id: match.value.id });
      }
      return found;
    },
  };
}

interface Special {
  readonly id: number;
  readonly control: boolean;
}

function touches(
  ranges: readonly TextRange[],
  start: number,
  end: number,
): boolean {
  let low = 0;
  let high = ranges.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (ranges[middle]![1] <= start) low = middle + 1;
    else high = middle;
  }
  return low < ranges.length && ranges[low]![0] < end;
}

/**
 * For a text in which some overlap: takes lengths in falling order, so that a place
 * whose match is not free any more is left with its next shorter one. What is taken
 * is never shorter than what is asked for, so both ends tell whether that is free.
 */
function longestFirst(
  textLength: number,
  lengths: readonly number[],
  longestAt: (
    start: number,
    lengthMax?: number,
  ) => { length: number; value: Special } | undefined,
): SpecialMatch[] {
  const left = Int32Array.from(
    { length: textLength },
    (_, start) => longestAt(start)?.length ?? 0,
  );
  const taken = new Uint8Array(textLength);
  const found: SpecialMatch[] = [];
  for (const length of lengths) {
    for (let start = 0; start < textLength; start++) {
      if (left[start] !== length || taken[start]) continue;
      const end = start + length;
      if (taken[end - 1]) {
        left[start] = longestAt(start, length - 1)?.length ?? 0;
      } else {
        taken.fill(1, start, end);
        found.push({ start, end, id: longestAt(start, length)!.value.id });
      }
    }
  }
  return found.sort((a, b) => a.start - b.start);
}

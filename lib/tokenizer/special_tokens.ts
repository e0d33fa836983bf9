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
  const byFirst = new Map<
    number,
    { text: string; id: number; control: boolean }[]
  >();
  const controlTexts: string[] = [];
  vocabulary.tokens.forEach((text, id) => {
    const control = isControl(id);
    if (
      text === "" ||
      !(control || vocabulary.types[id] === tokenTypes.userDefined)
    ) return;
    if (control) controlTexts.push(text);
    const first = text.charCodeAt(0);
    const listed = byFirst.get(first);
    if (listed === undefined) byFirst.set(first, [{ text, id, control }]);
    else listed.push({ text, id, control });
  });

  return {
    controlTexts,
    find(text, { control, plain = [] }) {
      const found: SpecialMatch[] = [];
      for (let start = 0; start < text.length; start++) {
        const candidates = byFirst.get(text.charCodeAt(start));
        if (candidates === undefined) continue;
        for (const candidate of candidates) {
          if (candidate.control && !control) continue;
          if (!text.startsWith(candidate.text, start)) continue;
          const end = start + candidate.text.length;
          if (candidate.control && touches(plain, start, end)) continue;
          found.push({ start, end, id: candidate.id });
        }
      }
      return withoutOverlap(found);
    },
  };
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

/** Keeps the longest of what overlaps; the input is in order of `start`. */
function withoutOverlap(found: SpecialMatch[]): SpecialMatch[] {
  const clash = found.some((match, i) =>
    i > 0 && match.start < found[i - 1]!.end
  );
  if (!clash) return found;
  const longestFirst = found.toSorted((a, b) =>
    (b.end - b.start) - (a.end - a.start) || a.start - b.start
  );
  const taken = new Set<number>();
  const kept = longestFirst.filter(({ start, end }) => {
    for (let at = start; at < end; at++) if (taken.has(at)) return false;
    for (let at = start; at < end; at++) taken.add(at);
    return true;
  });
  return kept.sort((a, b) => a.start - b.start);
}

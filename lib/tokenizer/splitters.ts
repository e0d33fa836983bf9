/**
 * Pre-tokenizers: where text is cut before merging, one scanner per pattern family.
 *
 * Each scanner is the published regular expression, unrolled: at a position the
 * alternatives are tried in the pattern's order, and a repeat takes all it can.
 * llama.cpp is the reference where it departs from a published pattern, because
 * GGUF files are tested against it; each departure is named where it is followed.
 *
 * Invariant: the ends a splitter pushes rise strictly and finish with `end`.
 */
import { letter, number, whitespace } from "./char_classes.ts";
import {
  classAt,
  isAsciiLetter,
  isAsciiPunctuation,
  isDeepseekPrefix,
  isLetter,
  isLetterOrMark,
  isLineEnd,
  isLineEndOrSlash,
  isLowerish,
  isNumber,
  isOther,
  isOtherNoMark,
  isSign,
  isSpace,
  isUpperish,
  isWordPrefix,
  previous,
  skip,
  width,
} from "./characters.ts";

/** Pushes the end of each piece of `text[start, end)`. */
export type Splitter = (
  text: string,
  start: number,
  end: number,
  ends: number[],
) => void;

const space = 0x20;
const apostrophe = 0x27;

/** Splits by each stage in turn; a stage sees one piece of the stage before. */
export function inStages(...stages: readonly Splitter[]): Splitter {
  return (text, start, end, ends) => {
    let pieces = [end];
    for (const stage of stages) {
      const finer: number[] = [];
      let from = start;
      for (const to of pieces) {
        stage(text, from, to, finer);
        from = to;
      }
      pieces = finer;
    }
    for (const piece of pieces) ends.push(piece);
  };
}

/** Isolates runs of characters that `accept` takes, at most `max` characters each. */
export function isolate(
  accept: (codePoint: number) => boolean,
  max = Infinity,
): Splitter {
  return (text, start, end, ends) => {
    let from = start;
    let at = start;
    while (at < end) {
      const stop = skip(text, at, end, accept, max);
      if (stop > at) {
        if (at > from) ends.push(at);
        ends.push(stop);
        from = at = stop;
      } else {
        at += width(text.codePointAt(at)!);
      }
    }
    if (from < end) ends.push(end);
  };
}

/** `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+` */
export const splitGpt2: Splitter = (text, start, end, ends) => {
  let at = start;
  while (at < end) {
    at = contractionEnd(text, at, end, false) ?? gpt2WordEnd(text, at, end);
    ends.push(at);
  }
};

function gpt2WordEnd(text: string, at: number, end: number): number {
  const from = text.charCodeAt(at) === space && at + 1 < end ? at + 1 : at;
  const flags = classAt(text, from);
  if (flags & letter) return skip(text, from, end, isLetter);
  if (flags & number) return skip(text, from, end, isNumber);
  if (!(flags & whitespace)) return skip(text, from, end, isOther);
  return spaceEnd(text, at, end);
}

export interface WordOptions {
  /** Digits taken together: `\p{N}{1,3}` or `\p{N}`. */
  digits: number;
  /** `[\p{L}\p{M}]+` for letters. */
  marks?: boolean;
}

/**
 * `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|
 * ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
 */
export function splitCl100k({ digits, marks = false }: WordOptions): Splitter {
  const isWord = marks ? isLetterOrMark : isLetter;
  const isRest = marks ? isOtherNoMark : isOther;
  return (text, start, end, ends) => {
    let at = start;
    while (at < end) {
      at = contractionEnd(text, at, end, true) ??
        prefixedEnd(text, at, end, isWord, isWordPrefix) ??
        digitsEnd(text, at, end, digits) ??
        otherEnd(text, at, end, isRest, isLineEnd) ??
        lineSpaceEnd(text, at, end);
      ends.push(at);
    }
  };
}

export interface CasedOptions {
  digits: number;
  /** Whether a word takes a contraction at its end: `don't` in one piece. */
  contractions: boolean;
}

/**
 * `[^\r\n\p{L}\p{N}]?U*L+(?i:'s|…)?|[^\r\n\p{L}\p{N}]?U+L*(?i:'s|…)?|\p{N}{1,3}|
 * ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+`
 *
 * Published: U is [\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}], L is [\p{Ll}\p{Lm}\p{Lo}\p{M}].
 * llama.cpp: a letter outside ASCII is both, whatever its case, and a mark neither.
 */
export function splitO200k({ digits, contractions }: CasedOptions): Splitter {
  return (text, start, end, ends) => {
    let at = start;
    while (at < end) {
      const word = casedWordEnd(text, at, end);
      if (word !== undefined) {
        at =
          (contractions ? contractionEnd(text, word, end, true) : undefined) ??
            word;
      } else {
        at = digitsEnd(text, at, end, digits) ??
          otherEnd(text, at, end, isOther, isLineEndOrSlash) ??
          lineSpaceEnd(text, at, end);
      }
      ends.push(at);
    }
  };
}

/** End of `prefix?U*L+`, or else of `prefix?U+L*`. */
function casedWordEnd(
  text: string,
  at: number,
  end: number,
): number | undefined {
  const from = wordStart(text, at, end, isLetter, isWordPrefix);
  if (from === undefined) return undefined;
  const upperEnd = skip(text, from, end, isUpperish);
  const lowerEnd = skip(text, upperEnd, end, isLowerish);
  if (lowerEnd > upperEnd) return lowerEnd;
  // Only upper-ish ones came. `L+` needs one: the last that is also lower-ish ends
  // the word, and the capitals behind it begin the next; without one, all are `U+`.
  for (let last = upperEnd; last > from;) {
    const before = previous(text, last);
    if (isLowerish(text.codePointAt(before)!)) return last;
    last = before;
  }
  return upperEnd;
}

/**
 * The last stage of DeepSeek-V3: `[ASCII punctuation][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+|
 * ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`; what no alternative takes stays a piece of its own.
 */
export const splitDeepseekWords: Splitter = (text, start, end, ends) => {
  let from = start;
  let at = start;
  while (at < end) {
    const stop = deepseekWordEnd(text, at, end);
    if (stop === undefined) {
      at += width(text.codePointAt(at)!);
      continue;
    }
    if (at > from) ends.push(at);
    ends.push(stop);
    from = at = stop;
  }
  if (from < end) ends.push(end);
};

function deepseekWordEnd(
  text: string,
  at: number,
  end: number,
): number | undefined {
  if (isAsciiPunctuation(text.charCodeAt(at))) {
    const stop = skip(text, at + 1, end, isAsciiLetter);
    if (stop > at + 1) return stop;
  }
  return prefixedEnd(text, at, end, isLetterOrMark, isDeepseekPrefix) ??
    otherEnd(text, at, end, isSign, isLineEnd) ??
    (classAt(text, at) & whitespace ? lineSpaceEnd(text, at, end) : undefined);
}

/** `\s?X+` for the X that `accept` takes, each match a piece (DeepSeek-Coder). */
export function isolateSpaced(
  accept: (codePoint: number) => boolean,
): Splitter {
  return (text, start, end, ends) => {
    let from = start;
    let at = start;
    while (at < end) {
      const stop = prefixedEnd(text, at, end, accept, isSpace);
      if (stop !== undefined) {
        if (at > from) ends.push(at);
        ends.push(stop);
        from = at = stop;
      } else {
        at += width(text.codePointAt(at)!);
      }
    }
    if (from < end) ends.push(end);
  };
}

// ---- pieces of patterns; `undefined` where the piece does not match ----

/** `'s|'t|'m|'d|'re|'ve|'ll`. Case is ASCII only: U+017F is no `s` here. */
function contractionEnd(
  text: string,
  at: number,
  end: number,
  anyCase: boolean,
): number | undefined {
  if (at + 1 >= end || text.charCodeAt(at) !== apostrophe) return undefined;
  const fold = anyCase ? 0x20 : 0;
  const one = String.fromCharCode(text.charCodeAt(at + 1) | fold);
  if (one === "s" || one === "t" || one === "m" || one === "d") return at + 2;
  if (at + 2 >= end) return undefined;
  const two = one + String.fromCharCode(text.charCodeAt(at + 2) | fold);
  return two === "re" || two === "ve" || two === "ll" ? at + 3 : undefined;
}

/** Where the word of `prefix?word+` begins, when one does at `at`. */
function wordStart(
  text: string,
  at: number,
  end: number,
  isWord: (codePoint: number) => boolean,
  isPrefix: (codePoint: number) => boolean,
): number | undefined {
  const first = text.codePointAt(at)!;
  // The prefix is greedy: taken whenever a word follows it.
  if (isPrefix(first)) {
    const next = at + width(first);
    if (next < end && isWord(text.codePointAt(next)!)) return next;
  }
  return isWord(first) ? at : undefined;
}

function prefixedEnd(
  text: string,
  at: number,
  end: number,
  isWord: (codePoint: number) => boolean,
  isPrefix: (codePoint: number) => boolean,
): number | undefined {
  const from = wordStart(text, at, end, isWord, isPrefix);
  return from === undefined ? undefined : skip(text, from, end, isWord);
}

function digitsEnd(
  text: string,
  at: number,
  end: number,
  max: number,
): number | undefined {
  const stop = skip(text, at, end, isNumber, max);
  return stop > at ? stop : undefined;
}

/** ` ?[rest]+[tail]*` */
function otherEnd(
  text: string,
  at: number,
  end: number,
  isRest: (codePoint: number) => boolean,
  isTail: (codePoint: number) => boolean,
): number | undefined {
  const from = text.charCodeAt(at) === space ? at + 1 : at;
  const stop = skip(text, from, end, isRest);
  return stop > from ? skip(text, stop, end, isTail) : undefined;
}

/** `\s*[\r\n]+|\s+(?!\S)|\s+`, or one character that is no space. */
function lineSpaceEnd(text: string, at: number, end: number): number {
  const stop = skip(text, at, end, isSpace);
  for (let last = stop; last > at; last--) {
    if (isLineEnd(text.charCodeAt(last - 1))) return last;
  }
  return spaceEnd(text, at, end, stop);
}

/** `\s+(?!\S)|\s+`: a run before text leaves its last space to the word. */
function spaceEnd(
  text: string,
  at: number,
  end: number,
  stop = skip(text, at, end, isSpace),
): number {
  if (stop === at) return at + width(text.codePointAt(at)!);
  // Every white space character is one code unit.
  return stop < end && stop - at > 1 ? stop - 1 : stop;
}

/** Kinds of characters that pre-tokenizers tell apart, and walking over them in a text. */
import {
  classOf,
  letter,
  mark,
  number,
  punctuation,
  symbol,
  whitespace,
} from "./char_classes.ts";

const cr = 0x0d;
const lf = 0x0a;
const slash = 0x2f;

export function isLetter(codePoint: number): boolean {
  return (classOf(codePoint) & letter) !== 0;
}

export function isNumber(codePoint: number): boolean {
  return (classOf(codePoint) & number) !== 0;
}

export function isPunctuation(codePoint: number): boolean {
  return (classOf(codePoint) & punctuation) !== 0;
}

export function isLineEnd(codePoint: number): boolean {
  return codePoint === cr || codePoint === lf;
}

export function isLineEndOrSlash(codePoint: number): boolean {
  return codePoint === cr || codePoint === lf || codePoint === slash;
}

export function isSpace(codePoint: number): boolean {
  return (classOf(codePoint) & whitespace) !== 0;
}

export function isLetterOrMark(codePoint: number): boolean {
  return (classOf(codePoint) & (letter | mark)) !== 0;
}

export function isOther(codePoint: number): boolean {
  return (classOf(codePoint) & (whitespace | letter | number)) === 0;
}

export function isOtherNoMark(codePoint: number): boolean {
  return (classOf(codePoint) & (whitespace | letter | number | mark)) === 0;
}

export function isWordPrefix(codePoint: number): boolean {
  return !isLineEnd(codePoint) &&
    (classOf(codePoint) & (letter | number)) === 0;
}

export function isDeepseekPrefix(codePoint: number): boolean {
  return !isLineEnd(codePoint) && !isLetter(codePoint) && !isSign(codePoint);
}

/** `[\p{P}\p{S}]` */
export function isSign(codePoint: number): boolean {
  return (classOf(codePoint) & (punctuation | symbol)) !== 0;
}

export function isUpperish(codePoint: number): boolean {
  return isLetter(codePoint) && !(codePoint >= 0x61 && codePoint <= 0x7a);
}

export function isLowerish(codePoint: number): boolean {
  return isLetter(codePoint) && !(codePoint >= 0x41 && codePoint <= 0x5a);
}

export function isAsciiLetter(codePoint: number): boolean {
  return (codePoint | 0x20) >= 0x61 && (codePoint | 0x20) <= 0x7a;
}

export function isAsciiPunctuation(codePoint: number): boolean {
  return codePoint > 0x20 && codePoint < 0x7f && !isAsciiLetter(codePoint) &&
    !(codePoint >= 0x30 && codePoint <= 0x39);
}

/** `[一-龥ࠀ-一가-퟿]`; llama.cpp hides white space from it, which the range includes. */
export function isDeepseekCjk(codePoint: number): boolean {
  const inRange = (codePoint >= 0x0800 && codePoint <= 0x9fa5) ||
    (codePoint >= 0xac00 && codePoint <= 0xd7ff);
  return inRange && !isSpace(codePoint);
}

/** `[一-龥぀-ゟ゠-ヿ]` */
export function isHanOrKana(codePoint: number): boolean {
  return (codePoint >= 0x4e00 && codePoint <= 0x9fa5) ||
    (codePoint >= 0x3040 && codePoint <= 0x30ff);
}

export function classAt(text: string, at: number): number {
  return classOf(text.codePointAt(at)!);
}

export function width(codePoint: number): number {
  return codePoint > 0xffff ? 2 : 1;
}

export function previous(text: string, at: number): number {
  const low = text.charCodeAt(at - 1);
  return low >= 0xdc00 && low < 0xe000 ? at - 2 : at - 1;
}

/** Past the characters from `at` that `accept` takes, at most `max` of them. */
export function skip(
  text: string,
  at: number,
  end: number,
  accept: (codePoint: number) => boolean,
  max = Infinity,
): number {
  for (let taken = 0; at < end && taken < max; taken++) {
    const codePoint = text.codePointAt(at)!;
    if (!accept(codePoint)) break;
    at += width(codePoint);
  }
  return at;
}

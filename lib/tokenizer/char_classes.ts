/**
 * Unicode classes of code points, as bit flags.
 *
 * Pre-tokenizers are hand-written scanners over these flags and not regular
 * expressions: a scanner is linear on any text, while a megabyte without a space
 * exhausts the backtracking stack of some regular expression engines.
 */
import { isAssigned } from "./unicode_assigned.ts";

export const letter = 1;
export const number = 2;
export const whitespace = 4;
export const mark = 8;
export const punctuation = 16;
export const symbol = 32;

/** Unicode White_Space; `\s` of JavaScript has U+FEFF and lacks U+0085. */
const whiteSpace =
  /[\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]/;

const classes: readonly [RegExp, number][] = [
  [/\p{L}/u, letter],
  [/\p{N}/u, number],
  [/\p{M}/u, mark],
  [/\p{P}/u, punctuation],
  [/\p{S}/u, symbol],
];

const pageBits = 8;
const pages: (Uint8Array | undefined)[] = new Array(0x110000 >> pageBits);

/** The flags of a code point. */
export function classOf(codePoint: number): number {
  const page = pages[codePoint >> pageBits] ?? buildPage(codePoint >> pageBits);
  return page[codePoint & ((1 << pageBits) - 1)]!;
}

/** Most texts touch a handful of pages, so each is filled when first asked for. */
function buildPage(index: number): Uint8Array {
  const page = new Uint8Array(1 << pageBits);
  for (let low = 0; low < page.length; low++) {
    const codePoint = (index << pageBits) + low;
    page[low] = isAssigned(codePoint)
      ? classify(String.fromCodePoint(codePoint))
      : 0;
  }
  pages[index] = page;
  return page;
}

function classify(char: string): number {
  if (whiteSpace.test(char)) return whitespace;
  return classes.find(([pattern]) => pattern.test(char))?.[1] ?? 0;
}

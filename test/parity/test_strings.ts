/** Seeded strings that pre-tokenizers disagree about. */

/** mulberry32: small, seedable, good enough to pick test strings. */
export function random(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

type Next = () => number;

const pick = <T>(next: Next, from: ArrayLike<T>): T =>
  from[Math.floor(next() * from.length)]!;
const below = (next: Next, max: number): number => Math.floor(next() * max);

const words = [
  ..."The quick brown fox JUMPS over It's they're I'LL we'Ve don't camelCase HTTPServer"
    .split(" "),
  ..."Größe naïve ÉCOLE ñandú straße Ελληνικά Здравствуй ПРИВЕТ мир İstanbul ǅungla"
    .split(" "),
  ..."日本語 東京都 中文字符 ひらがな カタカナ 한국어 안녕하세요 ไทย हिन्दी తెలుగు বাংলা العربية עברית"
    .split(" "),
  ..."ﬁnance Ⅷ ½ ² ٣٤٥ ৪৫ 𝟜𝟚 ǈ ʰ ª e\u0301a\u0308 x\u20e3 \u0301start ſ's ſT K'K"
    .split(" "),
];

const signs = [
  ..."!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~",
  ..."«»“”‘’…–—·¡¿§©®±×÷€£¥₹√∑∞≠→⇒★☃♥。、，！？「」『』・￥～",
  "...",
  "::",
  "->",
  "=>",
  "!=",
  "//",
  "/*",
  "</",
  "'s",
  "'S",
  "'re",
  "'VE",
  "'ſ",
  "'lL",
  "''",
  "~~",
  " ~",
  "~é",
];

const spaces = [
  ..." \t\n\r\v\f\u0085\u00a0\u1680\u2000\u2003\u200a\u2028\u2029\u202f\u205f\u3000",
  // Not White_Space, though some engines say so.
  ..."\ufeff\u200b\u180e\u2060\u001c\u001f",
  "  ",
  "   ",
  "\n\n",
  "\r\n",
  " \n",
  "\n ",
  "\t\t",
  "\u3000 ",
];

const emoji = ["😀", "👩‍👩‍👧‍👦", "🧑🏽‍💻", "🇩🇪🇯🇵", "❤️", "1️⃣", "🏴󠁧󠁢󠁥󠁮󠁧󠁿", "🫠", "☺︎"];

const makers: readonly ((next: Next) => string)[] = [
  (next) => pick(next, words),
  (next) => pick(next, words),
  (next) => pick(next, words) + pick(next, words),
  (next) => pick(next, signs),
  (next) => pick(next, signs) + pick(next, words),
  (next) => pick(next, spaces),
  (next) => pick(next, spaces) + pick(next, spaces),
  (next) => " " + pick(next, words),
  (next) => pick(next, emoji),
  (next) => String(below(next, 10 ** below(next, 9))),
  (next) => pick(next, [",", ".", " "]) + below(next, 10000),
  (next) => String.fromCharCode(below(next, 32)),
  (next) => String.fromCharCode(0x7f + below(next, 34)),
];

/** Words, signs, spaces, emoji and digits in a row. */
function mixed(next: Next): string {
  let text = "";
  for (let parts = 1 + below(next, 14); parts > 0; parts--) {
    text += pick(next, makers)(next);
  }
  return text;
}

/** Planes as they matter: most characters are in the first two blocks of 64 Ki. */
const planes: readonly [from: number, to: number][] = [
  [0x00, 0x80],
  [0x80, 0x250],
  [0x250, 0x800],
  [0x800, 0x3000],
  [0x3000, 0xd800],
  [0xe000, 0x10000],
  [0x10000, 0x20000],
  [0x20000, 0x110000],
];

/** Any code points but surrogates, many of them unassigned. */
function anyCharacters(next: Next): string {
  let text = "";
  for (let count = 1 + below(next, 24); count > 0; count--) {
    const [from, to] = pick(next, planes);
    text += String.fromCodePoint(from + below(next, to - from));
    if (next() < 0.15) text += pick(next, spaces);
  }
  return text;
}

const utf8 = new TextDecoder("utf-8", { ignoreBOM: true });

/** Random bytes, read as UTF-8: what is broken becomes U+FFFD for both sides. */
function anyBytes(next: Next): string {
  const bytes = Uint8Array.from(
    { length: 1 + below(next, 40) },
    () => below(next, 256),
  );
  return utf8.decode(bytes);
}

/** `count` strings, the same for the same seed. */
export function testStrings(count: number, seed: number): string[] {
  const next = random(seed);
  const kinds = [mixed, mixed, mixed, anyCharacters, anyBytes];
  return Array.from(
    { length: count },
    (_, i) => kinds[i % kinds.length]!(next),
  );
}

import { TextTrie } from "./text_trie.ts";

/** Finds what in a text spells a control token, or could with its neighbours. */
export type ForgeryFinder = (text: string) => [start: number, end: number][];

const finders = new WeakMap<readonly string[], ForgeryFinder>();

/**
 * The finder for these control texts; made once for each list.
 *
 * It reports, in order and without overlap: a text's beginning that ends a control
 * text, all whole control texts, and a text's end that begins one.
 */
export function forgeryFinder(controlTexts: readonly string[]): ForgeryFinder {
  let finder = finders.get(controlTexts);
  if (finder === undefined) {
    finders.set(controlTexts, finder = makeFinder(controlTexts));
  }
  return finder;
}

function makeFinder(controlTexts: readonly string[]): ForgeryFinder {
  const trie = new TextTrie<true>();
  const beginnings = new Set<string>();
  const endings = new Set<string>();
  let longest = 0;
  for (const text of controlTexts) {
    trie.add(text, true);
    longest = Math.max(longest, text.length);
    for (let cut = 1; cut < text.length; cut++) {
      beginnings.add(text.slice(0, cut));
      endings.add(text.slice(cut));
    }
  }

  return (text) => {
    const spans: [number, number][] = [];
    let at = headLength(text);
    if (at > 0) spans.push([0, at]);
    let free = at;
    while (at < text.length) {
      const whole = trie.longestAt(text, at);
      if (whole === undefined) {
        at++;
      } else {
        spans.push([at, at + whole.length]);
        at = free = at + whole.length;
      }
    }
    const tail = tailLength(text, text.length - free);
    if (tail > 0) spans.push([text.length - tail, text.length]);
    return spans;
  };

  function headLength(text: string): number {
    let length = Math.min(text.length, longest);
    while (length > 0 && !endings.has(text.slice(0, length))) length--;
    return length;
  }

  function tailLength(text: string, max: number): number {
    let length = Math.min(max, longest);
    while (length > 0 && !beginnings.has(text.slice(text.length - length))) {
      length--;
    }
    return length;
  }
}

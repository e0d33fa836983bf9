/**
 * Finds stop strings in text that arrives in pieces.
 *
 * One Knuth-Morris-Pratt automaton per stop string runs over the characters, so
 * the cost is linear however the strings repeat, and the automaton's state is
 * just what must be held back: the longest tail that may yet become a stop.
 *
 * Invariants: text ends at the first character that completes any stop string
 * (when several complete there, before the longest), whatever the pieces were;
 * released text never holds a character of a stop string.
 */
export class StopScanner {
  readonly #automata: readonly Automaton[];

  constructor(stops: readonly string[]) {
    this.#automata = stops.map((text) => ({
      text,
      failure: failureTable(text),
      matched: 0,
    }));
  }

  /** Characters at the end of what was scanned that may begin a stop string. */
  get heldCount(): number {
    let held = 0;
    for (const automaton of this.#automata) {
      if (automaton.matched > held) held = automaton.matched;
    }
    return held;
  }

  /** Scans on; the match is the stop string and the index in `piece` just behind it. */
  scan(piece: string): StopMatch | undefined {
    for (let index = 0; index < piece.length; index++) {
      const unit = piece.charCodeAt(index);
      let longest: string | undefined;
      for (const automaton of this.#automata) {
        if (
          advance(automaton, unit) &&
          automaton.text.length > (longest?.length ?? 0)
        ) {
          longest = automaton.text;
        }
      }
      if (longest !== undefined) return { stop: longest, end: index + 1 };
    }
    return undefined;
  }

  /** Forgets what was scanned: nothing before this point belongs to a match. */
  reset(): void {
    for (const automaton of this.#automata) automaton.matched = 0;
  }
}

export interface StopMatch {
  readonly stop: string;
  /** In characters of the last piece. */
  readonly end: number;
}

interface Automaton {
  readonly text: string;
  readonly failure: Int32Array;
  /** Leading characters of `text` that the scanned text ends with. */
  matched: number;
}

/** Takes one character; true when it completes the stop string. */
function advance(automaton: Automaton, unit: number): boolean {
  const { text, failure } = automaton;
  let matched = automaton.matched;
  while (matched > 0 && text.charCodeAt(matched) !== unit) {
    matched = failure[matched - 1];
  }
  if (text.charCodeAt(matched) === unit) matched++;
  automaton.matched = matched;
  return matched === text.length;
}

/** failure[i]: length of the longest proper prefix of text that ends text[0..i]. */
function failureTable(text: string): Int32Array {
  const failure = new Int32Array(text.length);
  let length = 0;
  for (let index = 1; index < text.length; index++) {
    while (length > 0 && text.charCodeAt(index) !== text.charCodeAt(length)) {
      length = failure[length - 1];
    }
    if (text.charCodeAt(index) === text.charCodeAt(length)) length++;
    failure[index] = length;
  }
  return failure;
}

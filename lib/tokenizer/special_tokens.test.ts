import { deepEqual, equal, ok } from "node:assert/strict";
import fc from "fast-check";
import { test } from "vitest";
import { forgeryFinder } from "./forgeries.ts";
import { createSpecialTokens, type SpecialMatch } from "./special_tokens.ts";
import { tokenTypes } from "./vocabulary.ts";

function specialTokens(control: readonly string[], user: readonly string[]) {
  const tokens = [...control, ...user];
  return createSpecialTokens({
    tokens,
    types: tokens.map((_, id) =>
      id < control.length ? tokenTypes.control : tokenTypes.userDefined
    ),
    idOf: new Map(tokens.map((text, id) => [text, id])),
    bosId: undefined,
    eosId: undefined,
    unknownId: undefined,
    endIds: [],
  });
}

/** As the rule is written: all matches, the longest first, of equals the leftmost. */
function everyMatch(
  text: string,
  { control, user, parses }: {
    readonly control: readonly string[];
    readonly user: readonly string[];
    readonly parses: boolean;
  },
): SpecialMatch[] {
  const matches = [...control, ...user].flatMap((token, id) => {
    if (id < control.length && !parses) return [];
    const found: SpecialMatch[] = [];
    for (
      let start = text.indexOf(token);
      start >= 0;
      start = text.indexOf(token, start + 1)
    ) found.push({ start, end: start + token.length, id });
    return found;
  });
  const kept: SpecialMatch[] = [];
  const order = matches.toSorted((a, b) =>
    (b.end - b.start) - (a.end - a.start) || a.start - b.start
  );
  for (const match of order) {
    const isFree = kept.every(({ start, end }) =>
      match.end <= start || match.start >= end
    );
    if (isFree) kept.push(match);
  }
  return kept.sort((a, b) => a.start - b.start);
}

const word = fc.string({
  unit: fc.constantFrom("a", "b"),
  minLength: 1,
  maxLength: 5,
});

test("find() is the longest texts first and the leftmost of equals, for any tokens", () => {
  fc.assert(fc.property(
    fc.uniqueArray(word, { maxLength: 8 }),
    fc.string({ unit: fc.constantFrom("a", "b"), maxLength: 60 }),
    fc.nat(8),
    fc.boolean(),
    (tokens, text, controlCount, parses) => {
      const control = tokens.slice(0, controlCount);
      const user = tokens.slice(controlCount);
      deepEqual(
        specialTokens(control, user).find(text, { control: parses }),
        everyMatch(text, { control, user, parses }),
      );
    },
  ));
});

const reserved = Array.from(
  { length: 256 },
  (_, n) => `<|reserved_special_token_${n}|>`,
);

test("a megabyte of beginnings of control tokens costs some steps for each", () => {
  const special = specialTokens(reserved, []);
  const find = forgeryFinder(special.controlTexts);
  for (const piece of ["<", "<|reserved_special_token_", "<|reserved"]) {
    const text = piece.repeat(Math.ceil(1_000_000 / piece.length));
    const startUs = process.cpuUsage();
    deepEqual(special.find(text, { control: true }), []);
    // The end of the text begins a token: that alone could be completed.
    equal(find(text).length, 1);
    const { user } = process.cpuUsage(startUs);
    ok(user / 1e6 < 1.5, `${piece} took ${user / 1e6} s`);
  }
});

test("a megabyte in which every place begins thirty tokens is cut from the left", () => {
  const runs = Array.from({ length: 30 }, (_, n) => " ".repeat(n + 2));
  const special = specialTokens([], runs);
  const found = special.find(" ".repeat(1_000_003), { control: false });
  // 31 spaces at a time, and what is left at the end.
  equal(found.length, Math.ceil(1_000_003 / 31));
  deepEqual(found.slice(0, 2), [
    { start: 0, end: 31, id: 29 },
    { start: 31, end: 62, id: 29 },
  ]);
  equal(found.at(-1)!.end, 1_000_003);
});

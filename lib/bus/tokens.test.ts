import { deepEqual, equal, match } from "node:assert/strict";
import fc from "fast-check";
import { test } from "vitest";
import { decodeToken, encodeToken } from "./tokens.ts";

test("encodeToken() keeps what a subject may hold and escapes the rest", () => {
  deepEqual(
    ["llama-3_1", "qwen2.5-0.5b", "a b*>", "größe", ""].map(encodeToken),
    ["llama-3_1", "qwen2=2E5-0=2E5b", "a=20b=2A=3E", "gr=C3=B6=C3=9Fe", "="],
  );
});

test("decodeToken() gives back any text, and tokens are legal in subjects", () => {
  const character = fc.integer({ min: 0, max: 0x10ffff })
    // Surrogates alone have no UTF-8 form.
    .filter((point) => point < 0xd800 || point > 0xdfff)
    .map((point) => String.fromCodePoint(point));
  fc.assert(fc.property(fc.string({ unit: character }), (text) => {
    const token = encodeToken(text);
    match(token, /^[\w=-]+$/);
    equal(decodeToken(token), text);
  }));
});

test("decodeToken() refuses tokens of other origin", () => {
  for (const token of ["", "=2", "a=zz", "=2e", "=41", "a.b", "=FF"]) {
    equal(decodeToken(token), undefined, token);
  }
});

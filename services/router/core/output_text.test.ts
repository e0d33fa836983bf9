import { deepEqual, equal, ok } from "node:assert/strict";
import { beforeAll, test } from "vitest";
import fc from "fast-check";
import type { TokenStream } from "../../../lib/tokenizer/mod.ts";
import { demoModel } from "../testing/demo.ts";
import type { ServedModel } from "./model_catalog.ts";
import { type OutputDelta, OutputText } from "./output_text.ts";

/** Token ids index the pieces. */
function streamOf(pieces: readonly string[]): TokenStream {
  return { push: (id) => pieces[id], end: () => "" };
}

type Token = { readonly id: number };

function run(
  pieces: readonly string[],
  { stop, batch = 1, minTokens }: {
    stop?: readonly string[];
    batch?: number;
    minTokens?: number;
  },
) {
  const output = new OutputText<Token>(streamOf(pieces), { stop, minTokens });
  const deltas: OutputDelta<Token>[] = [];
  const ids = pieces.map((_, id) => ({ id }));
  const collect = (fill: (delta: OutputDelta<Token>) => void) => {
    const delta: OutputDelta<Token> = { text: "", tokens: [] };
    fill(delta);
    deltas.push(delta);
  };
  for (let i = 0; i < ids.length && output.stopped === undefined; i += batch) {
    collect((delta) => output.push(ids.slice(i, i + batch), delta));
  }
  collect((delta) => output.end(delta));
  const text = deltas.map(({ text }) => text).join("");
  return {
    output,
    deltas,
    text,
    tokens: deltas.flatMap(({ tokens }) => tokens),
  };
}

test("without stop strings each token leaves with its text at once", () => {
  const { deltas } = run(["a", "", "bc"], {});
  deepEqual(
    deltas.map((
      { text, tokens },
    ) => [text, tokens.map(({ offset }) => offset)]),
    [
      ["a", [0]],
      ["", [1]],
      ["bc", [1]],
      ["", []],
    ],
  );
});

test("text that may begin a stop string waits, and comes when it does not", () => {
  const { deltas } = run(["Hi", " E", "N", "d"], { stop: [" END"] });
  deepEqual(deltas.map(({ text }) => text), ["Hi", "", "", " ENd", ""]);
});

test("the text ends exactly before the stop string, tokens inside it stay away", () => {
  const { text, tokens, output } = run(["one", " tw", "o thr", "ee", " four"], {
    stop: ["two three"],
  });
  equal(text, "one ");
  deepEqual(tokens.map(({ token }) => token.id), [0, 1]);
  deepEqual([output.stopped, output.tokenCount], ["two three", 4]);
});

test("what was held back comes out when generation ends without the stop string", () => {
  equal(run(["a\n", "\nUs"], { stop: ["\n\nUser:"] }).text, "a\n\nUs");
});

test("stop strings are not looked for within the first minTokens", () => {
  equal(
    run(["x", "STOP", "y", "STOP", "z"], { stop: ["STOP"], minTokens: 3 }).text,
    "xSTOPy",
  );
});

test("tokens behind the stop string in the same step do not count", () => {
  equal(
    run(["a", "b", "c", "d"], { stop: ["b"], batch: 4 }).output.tokenCount,
    2,
  );
});

test("any batching gives the same text, tokens and offsets", () => {
  const piece = fc.string({
    unit: fc.constantFrom("a", "b", "\n"),
    maxLength: 3,
  });
  const stop = fc.string({
    unit: fc.constantFrom("a", "b", "\n"),
    minLength: 1,
    maxLength: 4,
  });
  fc.assert(
    fc.property(
      fc.array(piece, { maxLength: 20 }),
      fc.array(stop, { maxLength: 3 }),
      fc.integer({ min: 2, max: 7 }),
      fc.integer({ min: 0, max: 4 }),
      (pieces, stops, batch, minTokens) => {
        const one = run(pieces, { stop: stops, minTokens });
        const many = run(pieces, { stop: stops, batch, minTokens });
        equal(many.text, one.text);
        deepEqual(many.tokens, one.tokens);
        equal(many.output.tokenCount, one.output.tokenCount);
        if (one.output.stopped === undefined) {
          equal(one.text, pieces.join(""));
          equal(one.tokens.length, pieces.length);
        } else if (minTokens === 0) {
          ok(!stops.some((stop) => one.text.includes(stop)));
        }
        for (const { token, offset } of one.tokens) {
          equal(offset, pieces.slice(0, token.id).join("").length);
        }
      },
    ),
    { numRuns: 1_500 },
  );
});

let model: ServedModel;
beforeAll(async () => {
  model = await demoModel();
});

test("real tokens: whole characters only, cut before a stop string of several bytes", () => {
  const ids = model.tokenizer.encode("Grüße 👩‍🚀 aus 世界!", {
    addSpecial: false,
  });
  const output = new OutputText<Token>(model.tokenizer.stream(), {
    stop: ["世界"],
  });
  const delta: OutputDelta<Token> = { text: "", tokens: [] };
  for (const id of ids) {
    output.push([{ id }], delta);
    ok(!delta.text.includes("\ufffd"), delta.text);
  }
  equal(delta.text, "Grüße 👩‍🚀 aus ");
});

test("a character that never completes comes out as U+FFFD at the end", () => {
  const [first] = model.tokenizer.encode("世", { addSpecial: false });
  const bytes = model.tokenizer.tokenBytes(first);
  const output = new OutputText<Token>(model.tokenizer.stream());
  const delta: OutputDelta<Token> = { text: "", tokens: [] };
  output.push([{ id: first }], delta);
  const before = delta.text;
  output.end(delta);
  ok(
    bytes.length < 3
      ? before === "" && delta.text === "\ufffd"
      : delta.text === "世",
  );
});

test("each token's own text is told, behind a stop string too", () => {
  const pieces = ["a", "b", "STOP", "c", "d"];
  const output = new OutputText<Token>(streamOf(pieces), { stop: ["STOP"] });
  const delta: OutputDelta<Token> = { text: "", tokens: [] };
  const told: string[] = [];
  output.push(pieces.map((_, id) => ({ id })), delta, told);
  deepEqual(told, pieces);
  equal(delta.text, "ab");
  equal(output.tokenCount, 3);
});

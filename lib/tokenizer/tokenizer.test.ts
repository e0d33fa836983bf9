import { deepEqual, equal, ok, throws } from "node:assert/strict";
import { fileURLToPath } from "node:url";
import fc from "fast-check";
import { test } from "vitest";
import { createMetadata, type GgufValue, readGguf } from "../gguf/mod.ts";
import { charOfByte } from "./byte_alphabet.ts";
import { createTokenizer, endIdsOf, type ModelTokenizer } from "./mod.ts";

const demoPath = fileURLToPath(
  new URL("../../models/quetzal-demo-q8_0.gguf", import.meta.url),
);
const demo = createTokenizer(readGguf(demoPath).metadata);

function tokenizerOf(values: Record<string, GgufValue>): ModelTokenizer {
  return createTokenizer(metadataOf(values));
}

function metadataOf(values: Record<string, GgufValue>) {
  const entries = Object.entries(values).map(([key, value]) =>
    [`tokenizer.ggml.${key}`, value] as const
  );
  return createMetadata("test.gguf", new Map(entries));
}

/** Bytes, a few merges, two control tokens and a user-defined one. */
const bytePair = {
  model: "gpt2",
  pre: "gpt-2",
  tokens: [
    ...charOfByte,
    "ab",
    "abc",
    "bc",
    "Ġa",
    "<|im_start|>",
    "<|im_end|>",
    "<think>",
  ],
  token_type: Int32Array.from(
    { length: 263 },
    (_, id) => id === 262 ? 4 : id > 259 ? 3 : 1,
  ),
  merges: ["a b", "b c", "ab c", "Ġ a"],
  eos_token_id: 261,
};

/** Bytes and pieces with scores, as SPM files have them. */
const byteTokens = Array.from(
  { length: 256 },
  (_, byte) => `<0x${byte.toString(16).toUpperCase().padStart(2, "0")}>`,
);
const pieces = ["▁", "a", "b", "▁a", "ab", "▁ab", "<|im_end|>"];
const spm = {
  model: "llama",
  tokens: ["<unk>", "<s>", "</s>", ...byteTokens, ...pieces],
  token_type: Int32Array.of(
    2,
    3,
    3,
    ...byteTokens.map(() => 6),
    1,
    1,
    1,
    1,
    1,
    1,
    3,
  ),
  scores: Float32Array.from({ length: 266 }, (_, id) => -id),
};

const anyText = fc.string({ unit: "binary", maxLength: 60 });

test("endIdsOf() tells what the tokenizer would", () => {
  const { metadata } = readGguf(demoPath);
  deepEqual(endIdsOf(metadata), demo.endIds);
  for (const values of [bytePair, spm, { ...spm, eot_token_id: 265 }]) {
    deepEqual(
      endIdsOf(metadataOf(values)),
      createTokenizer(metadataOf(values)).endIds,
    );
  }
  throws(
    () => endIdsOf(metadataOf({ model: "x" })),
    /needs one of gpt2, llama/,
  );
});

test("merges run by rank, leftmost first", () => {
  const tokenizer = tokenizerOf(bytePair);
  const spell = (text: string) =>
    [...tokenizer.encode(text)].map((id) => tokenizer.tokenText(id));
  deepEqual(spell("abc"), ["abc"]);
  deepEqual(spell("bcab"), ["bc", "ab"]);
  deepEqual(spell("x abab"), ["x", "Ġ", "ab", "ab"]);
});

test("control tokens are parsed only when asked for, user-defined ones always", () => {
  const tokenizer = tokenizerOf(bytePair);
  const text = "<|im_end|><think>";
  deepEqual([...tokenizer.encode(text, { parseSpecial: true })], [261, 262]);
  const plain = tokenizer.encode(text);
  ok(!plain.includes(261));
  equal(plain.at(-1), 262);
  equal(tokenizer.decode(plain), text);
  equal(tokenizer.decode([261, 97, 262]), `${tokenizer.decode([97])}<think>`);
  equal(tokenizer.decode([261], { special: true }), "<|im_end|>");
});

test("a control token that touches a plain range is not parsed", () => {
  const tokenizer = tokenizerOf(bytePair);
  const text = "<|im_end|>a<|im_end|>";
  for (const range of [[0, 1], [9, 10], [3, 4], [0, 10]] as const) {
    const ids = tokenizer.encode(text, {
      parseSpecial: true,
      plainRanges: [range],
    });
    equal(ids.filter((id) => id === 261).length, 1, `${range}`);
    equal(ids.at(-1), 261);
  }
  equal(
    tokenizer.encode(text, { parseSpecial: true, plainRanges: [[10, 11]] })
      .length,
    3,
  );
});

test("tokens that end a turn are control and end generation, whatever the file calls them", () => {
  const tokenizer = tokenizerOf({
    ...bytePair,
    token_type: new Int32Array(263).fill(1),
  });
  deepEqual(tokenizer.endIds, [261]);
  ok(tokenizer.controlTexts.includes("<|im_end|>"));
  ok(!tokenizer.encode("<|im_end|>").includes(261));
});

test("begin-of-text follows the file, then the pre-tokenizer's habit", () => {
  const withBos = { ...bytePair, bos_token_id: 260 };
  equal(
    tokenizerOf(withBos).encode("x")[0],
    tokenizerOf(bytePair).encode("x")[0],
  );
  equal(tokenizerOf({ ...withBos, add_bos_token: true }).encode("x")[0], 260);
  equal(tokenizerOf({ ...withBos, pre: "llama-bpe" }).encode("x")[0], 260);
  const asked = tokenizerOf({ ...withBos, pre: "llama-bpe" });
  ok(!asked.encode("x", { addSpecial: false }).includes(260));
  equal(
    tokenizerOf({ ...bytePair, add_eos_token: true }).encode("x").at(-1),
    261,
  );
});

test("SPM prefixes a space, merges by score and falls back to bytes", () => {
  const tokenizer = tokenizerOf(spm);
  const spell = (text: string) =>
    [...tokenizer.encode(text)].map((id) => tokenizer.tokenText(id));
  deepEqual(spell("ab"), ["<s>", "▁ab"]);
  deepEqual(spell("aab"), ["<s>", "▁a", "ab"]);
  deepEqual(spell("é"), ["<s>", "▁", "<0xC3>", "<0xA9>"]);
  equal(tokenizer.decode(tokenizer.encode("ab é")), "ab é");
  equal(tokenizer.decode(tokenizer.encode("ab"), { continues: true }), " ab");
});

test("decode() of encode() is the text, for byte BPE and SPM", () => {
  for (const tokenizer of [demo, tokenizerOf(bytePair), tokenizerOf(spm)]) {
    fc.assert(fc.property(anyText, (text) => {
      // U+2581 is how SPM spells a space; it cannot come back as itself.
      if (tokenizer.preTokenizer === undefined && text.includes("▁")) return;
      equal(tokenizer.decode(tokenizer.encode(text)), text.toWellFormed());
    }));
  }
});

test("every pre-tokenizer keeps every character of every text", () => {
  const names = [
    "llama-bpe",
    "qwen2",
    "qwen35",
    "tekken",
    "gpt-4o",
    "deepseek-v3",
    "smollm",
  ];
  for (const pre of [...names, "deepseek-coder", "default", "gpt-2"]) {
    const tokenizer = tokenizerOf({ ...bytePair, pre });
    fc.assert(
      fc.property(anyText, (text) => {
        equal(tokenizer.decode(tokenizer.encode(text)), text);
      }),
      { numRuns: 60 },
    );
  }
});

test("a stream's pieces join to decode(), and hold whole characters only", () => {
  for (const tokenizer of [demo, tokenizerOf(spm)]) {
    const ids = fc.array(fc.nat(tokenizer.vocabSize + 3), { maxLength: 40 });
    fc.assert(fc.property(ids, fc.boolean(), (list, special) => {
      const stream = tokenizer.stream({ special });
      const parts = [...list.map((id) => stream.push(id)), stream.end()];
      equal(parts.join(""), tokenizer.decode(list, { special }));
      ok(parts.every((part) => part.isWellFormed()));
    }));
    fc.assert(fc.property(anyText, (text) => {
      const stream = tokenizer.stream();
      const parts = [...tokenizer.encode(text)].map((id) => stream.push(id));
      // A valid text has no U+FFFD on the way but its own.
      if (!text.includes("\ufffd")) {
        ok(parts.every((part) => !part.includes("\ufffd")));
      }
    }));
  }
});

test("an incomplete character is held back, and U+FFFD at the end", () => {
  const stream = demo.stream();
  const [first, second, third] = [0xe6, 0x97, 0xa5];
  equal(stream.push(first!) + stream.push(second!), "");
  equal(stream.push(third!), "日");
  equal(stream.push(first!), "");
  equal(stream.end(), "\ufffd");
  equal(
    demo.decode([0xef, 0xbb, 0xbf, 97]),
    "\ufeffa",
    "a byte order mark is text",
  );
});

test("half a megabyte without a break is encoded in bounded time", () => {
  for (
    const tokenizer of [
      demo,
      tokenizerOf(spm),
      tokenizerOf({ ...bytePair, pre: "gpt-4o" }),
    ]
  ) {
    for (const character of ["a", " ", "1", "é"]) {
      const text = character.repeat(500_000);
      const start = process.cpuUsage();
      const ids = tokenizer.encode(text);
      const { user } = process.cpuUsage(start);
      ok(user / 1e6 < 3, `${JSON.stringify(character)} took ${user / 1e6} s`);
      equal(tokenizer.decode(ids).length, text.length);
    }
  }
});

test("text full of special tokens is encoded in bounded time", () => {
  const tokenizer = tokenizerOf(bytePair);
  const text = "<|im_end|><".repeat(50_000);
  const start = process.cpuUsage();
  equal(tokenizer.encode(text, { parseSpecial: true }).length, 100_000);
  ok(process.cpuUsage(start).user / 1e6 < 5);
});

const refusals: Record<
  string,
  [values: Record<string, GgufValue>, complaint: RegExp]
> = {
  "unknown model": [
    { ...bytePair, model: "bert" },
    /model needs one of gpt2, llama; found "bert"/,
  ],
  "a model named like a method": [
    { ...bytePair, model: "toString" },
    /needs one of gpt2, llama/,
  ],
  "unknown pre-tokenizer": [
    { ...bytePair, pre: "gpt-9" },
    /pre needs one of gpt-2, .*found "gpt-9"/,
  ],
  "repeated token": [
    { ...bytePair, tokens: ["a", "b", "a"] },
    /each text once, found "a" as 0 and 2/,
  ],
  "merge of one part": [
    { ...bytePair, merges: ["a b", "ab"] },
    /merges needs two parts.*"ab" at 1/,
  ],
  "too few types": [
    { ...bytePair, token_type: Int32Array.of(1) },
    /263 types, found 1/,
  ],
  "types of another kind": [
    { ...bytePair, token_type: ["x"] },
    /token_type needs an array of i32/,
  ],
  "too few scores": [
    { ...spm, scores: Float32Array.of(1) },
    /scores needs 266 f32 scores, found 1/,
  ],
};

for (const [name, [values, complaint]] of Object.entries(refusals)) {
  test(`createTokenizer() refuses: ${name}`, () => {
    throws(() => tokenizerOf(values), complaint);
    throws(() => tokenizerOf(values), { name: "MeshError" });
  });
}

test("a broken byte token is refused when it is spelled", () => {
  const tokens = spm.tokens.with(3, "<0xZZ>");
  const tokenizer = tokenizerOf({ ...spm, tokens });
  throws(
    () => tokenizer.decode([3]),
    /needs a byte token "<0x41>", found "<0xZZ>" as 3/,
  );
});

test("a file without a pre-tokenizer is flagged", () => {
  const { pre: _, ...rest } = bytePair;
  equal(tokenizerOf(rest).preTokenizerAssumed, true);
  equal(tokenizerOf(rest).preTokenizer, "default");
  equal(demo.preTokenizerAssumed, false);
});

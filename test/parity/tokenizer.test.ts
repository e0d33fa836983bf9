import { deepEqual, ok } from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, test, vi } from "vitest";
import { readGguf } from "../../lib/gguf/mod.ts";
import { createTokenizer } from "../../lib/tokenizer/mod.ts";
import { type Oracle, startOracle } from "./oracle.ts";
import { testStrings } from "./test_strings.ts";
import {
  blankSymbols,
  byteSymbols,
  learnMerges,
  specialTexts,
  userDefinedTexts,
  writeBpeVocabulary,
  writeSpmVocabulary,
} from "./test_vocabularies.ts";

const demo = fileURLToPath(
  new URL("../../models/quetzal-demo-q8_0.gguf", import.meta.url),
);
const seed = 20_26_11;
const strings = testStrings(2000, seed);
const folder = mkdtempSync(join(tmpdir(), "quetzal-vocabularies-"));
const learned = learnMerges(strings, byteSymbols, {
  rounds: 6,
  mergesPerRound: 800,
});
let oracle: Oracle;

// The reference splits by std::regex, which takes seconds for some patterns.
vi.setConfig({ testTimeout: 180_000 });

beforeAll(async () => {
  oracle = await startOracle();
});

afterAll(async () => {
  await oracle?.[Symbol.asyncDispose]();
  rmSync(folder, { recursive: true });
});

/** Ours and theirs on the same file; names the first text on which they part. */
async function compare(
  path: string,
  texts: readonly string[],
  special = false,
): Promise<void> {
  const tokenizer = createTokenizer(readGguf(path).metadata);
  const expected = await oracle.tokenize(path, texts, special);
  const differing = texts.flatMap((text, i) => {
    const ids = [
      ...tokenizer.encode(text, { addSpecial: false, parseSpecial: special }),
    ];
    if (ids.join() === expected[i]!.join()) return [];
    const spell = (list: number[]) =>
      list.map((id) => tokenizer.tokenText(id)).join(" ");
    return [{
      text: JSON.stringify(text),
      ours: spell(ids),
      theirs: spell(expected[i]!),
    }];
  });
  deepEqual(
    differing.slice(0, 3),
    [],
    `${differing.length} of ${texts.length} differ, seed ${seed}`,
  );
}

/** Control and user-defined tokens strewn into the strings, broken ones too. */
function withSpecials(texts: readonly string[]): string[] {
  const all = [
    ...specialTexts,
    ...userDefinedTexts,
    "<|im_",
    "end|>",
    "</think",
    "<s>",
    "</s>",
  ];
  return texts.map((text, i) =>
    `${all[i % all.length]}${text}${all[(i * 7 + 3) % all.length]}${
      all[(i * 5) % all.length]
    }x`
  );
}

test("the demo tokenizer gives llama.cpp's ids on 2,000 strings", async () => {
  await compare(demo, strings);
});

test("the demo tokenizer gives llama.cpp's ids with control tokens parsed and unparsed", async () => {
  const texts = withSpecials(strings.slice(0, 500));
  await compare(demo, texts, true);
  await compare(demo, texts, false);
});

const preTokenizers = [
  "gpt-2",
  "llama-bpe",
  "qwen2",
  "tekken",
  "gpt-4o",
  "deepseek-v3",
  "smollm",
  "starcoder",
  "dbrx",
  "deepseek-coder",
  "qwen35",
  "default",
];

for (const pre of preTokenizers) {
  test(`pre-tokenizer ${pre} gives llama.cpp's ids on 2,000 strings`, async () => {
    const path = join(folder, `${pre}.gguf`);
    writeBpeVocabulary(path, pre, learned);
    await compare(path, strings);
    await compare(path, withSpecials(strings.slice(0, 200)), true);
  });
}

test("a file without a pre-tokenizer is read as llama.cpp reads it", async () => {
  const path = join(folder, "none.gguf");
  writeBpeVocabulary(path, undefined, learned);
  await compare(path, strings);
});

test("SPM with byte fallback gives llama.cpp's ids on 2,000 strings", async () => {
  const merges = learnMerges(strings, blankSymbols, {
    rounds: 5,
    mergesPerRound: 500,
  });
  const path = join(folder, "spm.gguf");
  writeSpmVocabulary(path, merges);
  await compare(path, strings);
  await compare(path, withSpecials(strings.slice(0, 300)), true);
});

test("decode() gives llama.cpp's text, with and without control tokens", async () => {
  const path = join(folder, "detokenize.gguf");
  writeBpeVocabulary(path, "qwen2", learned);
  const tokenizer = createTokenizer(readGguf(path).metadata);
  const texts = withSpecials(strings.slice(0, 300));
  const ids = texts.map((
    text,
  ) => [...tokenizer.encode(text, { parseSpecial: true })]);
  for (const special of [true, false]) {
    const expected = await oracle.detokenize(path, ids, special);
    deepEqual(ids.map((each) => tokenizer.decode(each, { special })), expected);
  }
});

test("a wrong cut changes ids, so that the comparison can fail", () => {
  const path = join(folder, "cut.gguf");
  const encode = (pre: string) => {
    writeBpeVocabulary(path, pre, learned);
    const tokenizer = createTokenizer(readGguf(path).metadata);
    return strings.map((text) =>
      tokenizer.encode(text, { addSpecial: false }).join()
    );
  };
  const qwen2 = encode("qwen2");
  for (const other of ["gpt-2", "dbrx", "qwen35", "gpt-4o", "deepseek-v3"]) {
    const differing = encode(other).filter((ids, i) => ids !== qwen2[i]).length;
    ok(
      differing > 100,
      `${other} and qwen2 differ on ${differing} strings only`,
    );
  }
});

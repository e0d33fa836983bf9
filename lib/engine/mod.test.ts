import {
  deepEqual,
  equal,
  notEqual,
  ok,
  rejects,
  throws,
} from "node:assert/strict";
import { copyFileSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, test } from "vitest";
import { Code } from "../errors/mesh_error.ts";
import { gguf, readGguf } from "../gguf/mod.ts";
import { chooseLimits } from "./engine_options.ts";
import { createEngine, engineSize, isUnchanged, openModel } from "./mod.ts";
import { referenceNative } from "./testing/reference_native.ts";
import { promptOf, run } from "./testing/sequences.ts";
import { type TinyModelOptions, writeTinyModel } from "./testing/tiny_model.ts";

const folder = mkdtempSync(join(tmpdir(), "quetzal-engine-"));
afterAll(() => rmSync(folder, { recursive: true }));

let fileCount = 0;
function tiny(options: TinyModelOptions = {}): string {
  const path = join(folder, `tiny-${fileCount++}.gguf`);
  writeTinyModel(path, options);
  return path;
}

const path = tiny();

test("a program gives the same tokens in chunks, in batches and from the cache", async () => {
  const prompts = [5, 16, 40, 41].map((length, i) => promptOf(length, i + 1));
  const expected: (readonly number[])[] = [];
  for (const prompt of prompts) {
    await using engine = await createEngine({ path, native: referenceNative });
    const { ids } = await run(engine, { prompt, maxTokens: 12 });
    expected.push(ids);
  }
  await using engine = await createEngine({
    path,
    native: referenceNative,
    rowsMax: 7,
    kvBlocks: 16,
  });
  for (let round = 0; round < 2; round++) {
    const found = await Promise.all(
      prompts.map((prompt) => run(engine, { prompt, maxTokens: 12 })),
    );
    deepEqual(found.map(({ ids }) => ids), expected);
  }
});

test("the engine tells what the file declares", async () => {
  await using engine = await createEngine({
    path,
    native: referenceNative,
    kvBlocks: 20,
  });
  equal(engine.contextLength, 256);
  equal(engine.vocabSize, 97);
  equal(engine.layers, 2);
  equal(engine.kvBlockBytes, 2 * 2 * 2 * 16 * 16 * 2);
  equal(engine.status().blocksTotal, 20);
});

test("the context is what the pool holds where that is less than the file's", async () => {
  const options = { path, native: referenceNative, kvBlocks: 4 };
  await using engine = await createEngine(options);
  equal(engine.contextLength, 64);
  equal(engineSize(options, openModel(readGguf(path))).contextLength, 64);
  const prompt = promptOf(50, 1);
  // Without a bound of its own an answer ends where the pool does.
  const { ids } = await run(engine, { prompt, maxTokens: 1_000 });
  equal(prompt.length + ids.length, 64);
});

test("copies of a file have one fingerprint, other files another", () => {
  const fingerprint = (file: string) => openModel(readGguf(file)).fingerprint;
  const copy = join(folder, "copy.gguf");
  copyFileSync(path, copy);
  equal(fingerprint(copy), fingerprint(path));
  ok(/^[0-9a-f]{32}$/.test(fingerprint(path)));
  notEqual(fingerprint(tiny({ seed: 2 })), fingerprint(path));
  const metadata = { "general.name": gguf.string("another") };
  notEqual(fingerprint(tiny({ metadata })), fingerprint(path));
});

test("KV in q8_0 has smaller blocks and another fingerprint", async () => {
  const heads32 = tiny({ headDim: 32 });
  const f16 = openModel(readGguf(heads32));
  const q8 = openModel(readGguf(heads32), "q8_0");
  equal(f16.kvBlockBytes, 2 * 2 * 2 * 16 * 32 * 2);
  equal(q8.kvBlockBytes, 2 * 2 * 2 * 16 * 34);
  notEqual(q8.fingerprint, f16.fingerprint);
  equal(openModel(readGguf(heads32), "f16").fingerprint, f16.fingerprint);
  ok(isUnchanged(q8));
  await using engine = await createEngine({
    path: heads32,
    native: referenceNative,
    kvType: "q8_0",
    kvBytes: 10 * q8.kvBlockBytes,
  });
  deepEqual(
    [engine.kvType, engine.fingerprint, engine.kvBlockBytes, engine.kvBytes],
    ["q8_0", q8.fingerprint, q8.kvBlockBytes, 10 * q8.kvBlockBytes],
  );
});

test("KV in q8_0 needs heads of whole blocks", () => {
  throws(() => openModel(readGguf(path), "q8_0"), {
    code: Code.failedPrecondition,
    message: `Cannot keep KV of "${path}" in q8_0: needs heads in multiples ` +
      "of 32 dims, found 16",
  });
});

test("the pool holds runningMax contexts unless told otherwise", () => {
  const model = openModel(readGguf(path));
  equal(chooseLimits({}, model).kvBlocks, 64 * 16);
  equal(chooseLimits({ runningMax: 3 }, model).kvBlocks, 3 * 16);
  equal(chooseLimits({ kvBytes: 10 * model.kvBlockBytes }, model).kvBlocks, 10);
  equal(chooseLimits({ kvBlocks: 7 }, model).kvBlocks, 7);
  equal(chooseLimits({ rowsMax: 8 }, model).runningMax, 8);
});

test("faulty options are reported together", () => {
  const model = openModel(readGguf(path));
  throws(
    () =>
      chooseLimits(
        { threads: 0, rowsMax: 4, runningMax: 5, kvBlocks: 1.5 },
        model,
      ),
    {
      code: Code.invalidArgument,
      message: "Cannot create an engine: threads: needs 1..256, found 0; " +
        "runningMax: needs 1..4, found 5; kvBlocks: needs 1..1073741824, found 1.5",
    },
  );
});

test("createEngine() names what it lacks", async () => {
  await rejects(
    createEngine({ native: referenceNative }),
    /needs path or gguf/,
  );
  await rejects(createEngine({ path, native: referenceNative, isa: "avx9" }), {
    code: Code.failedPrecondition,
    message: "Cannot create an engine: isa: needs one of ref, found avx9",
  });
  const native = {
    ...referenceNative,
    loadModel: () =>
      Promise.reject(new Error("op 3: needs 64 columns, found 63")),
  };
  await rejects(
    createEngine({ path, native }),
    /tiny-0.gguf": op 3: needs 64 columns/,
  );
});

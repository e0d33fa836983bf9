import { deepEqual, equal, ok, rejects } from "node:assert/strict";
import process from "node:process";
import { afterEach, beforeAll, describe, test } from "vitest";
import type {
  Native,
  NativeModel,
  NativeModelSpec,
  Target,
} from "../../lib/engine/native.ts";
import { makeBatch, type TestSequence } from "../testing/batches.ts";
import { tinyTransformer } from "../testing/models.ts";
import {
  encodeWeight,
  Random,
  WeightFile,
  type WeightType,
} from "../testing/weights.ts";
import { emulatedNative } from "./testing.ts";

const shape = {
  vocab: 71,
  width: 64,
  heads: 4,
  kvHeads: 2,
  headDim: 32,
  layers: 2,
};
const kv = { layers: 2, kvHeads: 2, headDim: 32, blockTokens: 16, blocks: 64 };

let native: Native;
beforeAll(async () => {
  native = await emulatedNative();
}, 600_000);

afterEach(() => {
  delete process.env.QUETZAL_FAKE_CUDA_BYTES;
  delete process.env.QUETZAL_FAKE_CUDA_LOST;
  delete process.env.QUETZAL_FAKE_CUDA_PTX;
});

function tinyFile(type: WeightType, isUntied = false): {
  file: WeightFile;
  program: NativeModelSpec["program"];
} {
  const file = new WeightFile();
  const random = new Random(11);
  const program = tinyTransformer(
    file,
    { ...shape, isUntied },
    (rows, cols) =>
      file.add(
        encodeWeight(type, rows, cols, random.floats(rows * cols, 0.15)),
      ),
  );
  file.write();
  return { file, program };
}

function load(
  isa: Target,
  { file, program }: ReturnType<typeof tinyFile>,
): Promise<NativeModel> {
  return native.loadModel({
    path: file.path,
    isa,
    threads: 2,
    weights: file.specs,
    program,
    kv,
    rowsMax: 64,
    outRowsMax: 64,
  });
}

function tokens(random: Random, count: number): Int32Array {
  return Int32Array.from({ length: count }, () => random.below(shape.vocab));
}

/** Prompts in chunks next to single tokens, then tokens alone: what steps look like. */
function steps(): readonly (readonly TestSequence[])[] {
  const random = new Random(5);
  const first = { blocks: [9, 3, 27], outRows: undefined };
  return [
    [{ ...first, tokenIds: tokens(random, 1), kvBefore: 0 }],
    [
      { ...first, tokenIds: tokens(random, 20), kvBefore: 1 },
      { tokenIds: tokens(random, 3), blocks: [40] },
    ],
    [
      { ...first, tokenIds: tokens(random, 1), kvBefore: 21 },
      { tokenIds: tokens(random, 1), kvBefore: 3, blocks: [40] },
      { tokenIds: tokens(random, 1), blocks: [0] },
    ],
    [{ ...first, tokenIds: tokens(random, 17), kvBefore: 22 }],
  ];
}

/** Steps of at most four rows, over a block's end. */
function fewRows(): readonly (readonly TestSequence[])[] {
  const random = new Random(6);
  return [4, 3, 4, 1, 2, 4, 1, 1].map((count, i, counts) => [{
    tokenIds: tokens(random, count),
    kvBefore: counts.slice(0, i).reduce((sum, each) => sum + each, 0),
    blocks: [11, 2],
  }]);
}

async function logitsOf(
  model: NativeModel,
  list = steps(),
): Promise<Float32Array[]> {
  const all: Float32Array[] = [];
  for (const sequences of list) {
    const batch = makeBatch(sequences, { vocab: shape.vocab });
    await model.step(batch);
    all.push(batch.logits!.slice(0, batch.outRows * shape.vocab));
  }
  return all;
}

function errorOf(found: Float32Array[], wanted: Float32Array[]): number {
  let squares = 0, total = 0;
  for (const [step, logits] of wanted.entries()) {
    equal(found[step].length, logits.length);
    logits.forEach((logit, i) => {
      squares += (found[step][i] - logit) ** 2;
      total += logit ** 2;
    });
  }
  return Math.sqrt(squares / total);
}

describe("the CUDA backend on the emulated driver", () => {
  // Products of few rows round inputs as the reference does, KV is f16; those of more read
  // them as halves, which is finer than the reference's int8 and coarser than its f32.
  const cases: readonly [WeightType, few: number, many: number][] = [
    ["F32", 2e-4, 2e-4],
    ["F16", 2e-4, 3e-3],
    ["BF16", 2e-4, 3e-3],
    ["Q8_0", 5e-3, 4e-2],
    ["Q4_0", 5e-3, 4e-2],
  ];
  test.each(cases)(
    "%s logits agree with the reference within %d, in big steps within %d",
    async (type, few, many) => {
      const tiny = tinyFile(type);
      using _file = tiny.file;
      const reference = await load("ref", tiny);
      const model = await load("cuda", tiny);
      for (
        const [list, tolerance] of [[fewRows(), few], [steps(), many]] as const
      ) {
        const wanted = await logitsOf(reference, list);
        const error = errorOf(await logitsOf(model, list), wanted);
        ok(error <= tolerance, `${error}, at most ${tolerance}`);
      }
      await reference.close();
      await model.close();
    },
  );

  test.each([
    ["up to four rows", 1, [1, 2, 3]],
    ["more rows", 6, [1, 9, 25]],
  ])(
    "logits are the same bits in any company of %s",
    async (_, rows, companies) => {
      const tiny = tinyFile("Q8_0");
      using _file = tiny.file;
      const model = await load("cuda", tiny);
      const own = { tokenIds: tokens(new Random(8), rows), blocks: [5] };
      const logitsWith = async (others: number) => {
        const random = new Random(others);
        const company = Array.from({ length: others }, (_, i) => ({
          tokenIds: tokens(random, 1),
          blocks: [20 + i],
        }));
        const batch = makeBatch([...company, own], { vocab: shape.vocab });
        await model.step(batch);
        const end = batch.outRows * shape.vocab;
        return batch.logits!.slice(end - rows * shape.vocab, end);
      };
      const alone = await logitsWith(0);
      for (const others of companies) {
        deepEqual(await logitsWith(others), alone);
      }
      await model.close();
    },
  );

  test.each([false, true])(
    "a step tells its time on the device and the bytes it read, output of its own: %s",
    async (isUntied) => {
      const tiny = tinyFile("Q8_0", isUntied);
      using _file = tiny.file;
      const model = await load("cuda", tiny);
      const output = await model.step(
        makeBatch([{ tokenIds: Int32Array.of(1), blocks: [2] }], {
          vocab: shape.vocab,
        }),
      );
      ok(output.deviceUs! > 0 && output.deviceUs! <= output.stepUs);
      // One token of KV in two layers: k and v of two heads of 32 halves.
      const kvBytes = 2 * 2 * 2 * 32 * 2;
      // A step looks up one row of a table that no product reads: quants, and f16 scales.
      const whole = (bytes: number) => Math.ceil(bytes / 256) * 256;
      const { vocab, width } = shape;
      const tableBytes = whole(vocab * width) + whole(vocab * width / 32 * 2);
      equal(
        output.bytesRead,
        model.weightBytes + kvBytes - (isUntied ? tableBytes : 0),
      );
      await model.close();
    },
  );

  test("KV blocks read and written from here are those of the pool", async () => {
    const tiny = tinyFile("F16");
    using _file = tiny.file;
    const prompt = tokens(new Random(3), 32);
    const next = { tokenIds: Int32Array.of(7), kvBefore: 32 };
    const first = await load("cuda", tiny);
    await first.step(
      makeBatch([{ tokenIds: prompt, blocks: [4, 6] }], { vocab: shape.vocab }),
    );
    const wanted = makeBatch([{ ...next, blocks: [4, 6, 8] }], {
      vocab: shape.vocab,
    });
    await first.step(wanted);
    const second = await load("cuda", tiny);
    second.kvBlock!(30).set(first.kvBlock!(4));
    second.kvBlock!(1).set(first.kvBlock!(6));
    const found = makeBatch([{ ...next, blocks: [30, 1, 5] }], {
      vocab: shape.vocab,
    });
    await second.step(found);
    equal(errorOf([found.logits!], [wanted.logits!]), 0);
    await first.close();
    await second.close();
  });

  test("a model that slept gives the same logits after it woke", async () => {
    const tiny = tinyFile("Q4_0");
    using _file = tiny.file;
    const model = await load("cuda", tiny);
    const before = await logitsOf(model);
    const heldBytes = () => {
      const probe = native.cuda!();
      if (probe.missing !== undefined) throw new Error(probe.missing);
      return probe.memoryBytes - probe.freeBytes;
    };
    const awake = heldBytes();
    await model.sleep!();
    ok(heldBytes() <= awake - model.weightBytes);
    await rejects(logitsOf(model), /the model is asleep/);
    await model.wake!();
    equal(heldBytes(), awake);
    equal(errorOf(await logitsOf(model), before), 0);
    await model.close();
  });

  test("a device without room says what was needed and what is free", async () => {
    const tiny = tinyFile("F32");
    using _file = tiny.file;
    process.env.QUETZAL_FAKE_CUDA_BYTES = "300000";
    await rejects(
      load("cuda", tiny),
      /needs \d+ bytes of device memory for .*, \d+ of 300000 are free/,
    );
  });

  test("the KV pool leaves a margin of the device's memory free", async () => {
    const tiny = tinyFile("F16");
    using _file = tiny.file;
    const model = await load("cuda", tiny);
    const probe = native.cuda!();
    if (probe.missing !== undefined) throw new Error(probe.missing);
    const needed = probe.memoryBytes - probe.freeBytes;
    await model.close();
    const withBytes = async (bytes: number) => {
      process.env.QUETZAL_FAKE_CUDA_BYTES = String(bytes);
      await (await load("cuda", tiny)).close();
    };
    await withBytes(Math.ceil(needed * 16 / 15) + 256);
    await rejects(
      withBytes(needed + 256),
      /bytes of device memory for the KV pool and a margin of \d+, \d+ of/,
    );
  });

  test("a model that cannot wake for want of room can wake later", async () => {
    const tiny = tinyFile("F16");
    using _file = tiny.file;
    const model = await load("cuda", tiny);
    const before = await logitsOf(model);
    await model.sleep!();
    process.env.QUETZAL_FAKE_CUDA_BYTES = "1000";
    await rejects(
      model.wake!(),
      /needs \d+ bytes of device memory for weights/,
    );
    equal(model.fault, undefined);
    delete process.env.QUETZAL_FAKE_CUDA_BYTES;
    await model.wake!();
    equal(errorOf(await logitsOf(model), before), 0);
    await model.close();
  });

  test("more kinds of steps than graphs are kept give the same logits", async () => {
    const tiny = tinyFile("F16");
    using _file = tiny.file;
    process.env.QUETZAL_CUDA_GRAPHS = "2";
    await emulatedNative();
    try {
      const model = await load("cuda", tiny);
      const before = await logitsOf(model);
      equal(errorOf(await logitsOf(model), before), 0);
      await model.close();
    } finally {
      delete process.env.QUETZAL_CUDA_GRAPHS;
      await emulatedNative();
    }
  });

  test("kernels that cannot wait for one another are launched apart", async () => {
    const tiny = tinyFile("Q8_0");
    using _file = tiny.file;
    const overlapping = await load("cuda", tiny);
    const expected = await logitsOf(overlapping);
    await overlapping.close();
    process.env.QUETZAL_FAKE_CUDA_PTX = "80";
    const model = await load("cuda", tiny);
    equal(errorOf(await logitsOf(model), expected), 0);
    await model.close();
  });

  test("a device lost in sleep is told like one lost in a step", async () => {
    const tiny = tinyFile("F16");
    using _file = tiny.file;
    const model = await load("cuda", tiny);
    process.env.QUETZAL_FAKE_CUDA_LOST = "1";
    await rejects(logitsOf(model), /is lost/);
    await rejects(model.sleep!(), /Emulated GPU is lost/);
    await rejects(model.wake!(), /Emulated GPU is lost/);
    delete process.env.QUETZAL_FAKE_CUDA_LOST;
    await model.close();
  });

  test("heads that the kernels cannot read are refused", async () => {
    using file = new WeightFile();
    const random = new Random(1);
    const program = tinyTransformer(
      file,
      { ...shape, headDim: 20, heads: 2 },
      (rows, cols) =>
        file.add(
          encodeWeight("F32", rows, cols, random.floats(rows * cols, 0.1)),
        ),
    );
    file.write();
    await rejects(
      native.loadModel({
        path: file.path,
        isa: "cuda",
        threads: 1,
        weights: file.specs,
        program,
        kv: { ...kv, headDim: 20 },
        rowsMax: 8,
        outRowsMax: 8,
      }),
      /CUDA kernels need heads of 8, 16, .. 256 dims, found 20/,
    );
  });

  test("KV in q8_0 is refused", async () => {
    const tiny = tinyFile("F16");
    using _file = tiny.file;
    await rejects(
      native.loadModel({
        path: tiny.file.path,
        isa: "cuda",
        threads: 1,
        weights: tiny.file.specs,
        program: tiny.program,
        kv: { ...kv, type: "q8_0" },
        rowsMax: 8,
        outRowsMax: 8,
      }),
      /CUDA kernels need KV in f16, found q8_0/,
    );
  });

  test("a lost device fails the step, names the device and stays lost", async () => {
    const tiny = tinyFile("F16");
    using _file = tiny.file;
    const model = await load("cuda", tiny);
    await logitsOf(model);
    equal(model.fault, undefined);
    process.env.QUETZAL_FAKE_CUDA_LOST = "1";
    try {
      await rejects(
        logitsOf(model),
        /the CUDA device Emulated GPU is lost \(.*CUDA_ERROR_ILLEGAL_ADDRESS/,
      );
      ok(/is lost/.test(model.fault!));
      await rejects(logitsOf(model), /is lost/);
      ok(isThrown(() => model.kvBlock!(0)));
    } finally {
      delete process.env.QUETZAL_FAKE_CUDA_LOST;
      await model.close();
    }
  });
});

function isThrown(act: () => unknown): boolean {
  try {
    act();
    return false;
  } catch {
    return true;
  }
}

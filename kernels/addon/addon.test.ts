import { equal, match, ok, rejects } from "node:assert/strict";
import { spawn } from "node:child_process";
import { readdirSync, readFileSync, truncateSync } from "node:fs";
import { availableParallelism } from "node:os";
import process from "node:process";
import { setTimeout as sleep } from "node:timers/promises";
import { beforeAll, describe, test } from "vitest";
import type {
  Batch,
  Native,
  NativeModelSpec,
} from "../../lib/engine/native.ts";
import {
  Opcode,
  opWords,
  ProgramBuilder,
  RowKind,
} from "../../lib/engine/program.ts";
import { makeBatch } from "../testing/batches.ts";
import {
  smallKv,
  testNative,
  tinyTransformer,
  withModel,
} from "../testing/models.ts";
import { encodeWeight, Random, WeightFile } from "../testing/weights.ts";
import { crc32cPlain } from "./mod.ts";

let native: Native;
beforeAll(async () => {
  native = await testNative();
});

const shape = {
  vocab: 40,
  width: 64,
  heads: 2,
  kvHeads: 1,
  headDim: 32,
  layers: 1,
};

function tinyModel() {
  const file = new WeightFile();
  const random = new Random(1);
  const program = tinyTransformer(
    file,
    shape,
    (rows, cols) =>
      file.add(
        encodeWeight("Q8_0", rows, cols, random.floats(rows * cols, 0.2)),
      ),
  );
  file.write();
  const spec: NativeModelSpec = {
    path: file.path,
    isa: "ref",
    threads: 2,
    weights: file.specs,
    program,
    kv: smallKv,
    rowsMax: 32,
    outRowsMax: 8,
  };
  return { file, spec, [Symbol.dispose]: () => file[Symbol.dispose]() };
}

test("crc32c() gives the check value, with and without SSE 4.2, at any offset", () => {
  const bytes = new TextEncoder().encode("123456789");
  equal(native.crc32c(bytes), 0xe3069283);
  equal(crc32cPlain(bytes), 0xe3069283);
  equal(native.crc32c(new Uint8Array()), 0);
  const noise = Uint8Array.from({ length: 1000 }, (_, i) => (i * 7919) >> 3);
  for (const begin of [0, 1, 3, 8]) {
    const part = noise.subarray(begin, 900 + begin);
    equal(native.crc32c(part), crc32cPlain(part));
  }
});

describe("loadModel() rejects, with a message,", () => {
  type Change = (spec: NativeModelSpec) => unknown;
  const weight = (change: object): Change => (spec) => ({
    ...spec,
    weights: [{ ...spec.weights[0], ...change }, ...spec.weights.slice(1)],
  });
  const kv = (change: object): Change => (spec) => ({
    ...spec,
    kv: { ...spec.kv, ...change },
  });
  /** Changes word `word` of the first op with this opcode. */
  const op =
    (opcode: number, word: number, value: number): Change => (spec) => {
      const ops = spec.program.ops.slice();
      const at = Array.from(
        { length: ops.length / opWords },
        (_, i) => i * opWords,
      )
        .find((begin) => ops[begin] === opcode)!;
      ops[at + word] = value;
      return { ...spec, program: { ...spec.program, ops } };
    };
  const nan = new Int32Array(Float32Array.of(NaN).buffer)[0];

  const cases: [string, Change, RegExp][] = [
    ["a spec that is no object", () => 7, /Cannot read path/],
    [
      "no weights",
      (s) => ({ ...s, weights: undefined }),
      /weights: needs an array/,
    ],
    ["a null weight", (s) => ({ ...s, weights: [null] }), /Cannot read name/],
    [
      "a missing file",
      (s) => ({ ...s, path: "/nowhere/x.gguf" }),
      /nowhere.*No such file/,
    ],
    ["a folder", (s) => ({ ...s, path: "/tmp" }), /the file has 0/],
    ["a path with NUL", (s) => ({ ...s, path: "a\0b" }), /NUL/],
    [
      "an unknown isa",
      (s) => ({ ...s, isa: "sse9" }),
      /isa must be one of ref/,
    ],
    [
      "no threads",
      (s) => ({ ...s, threads: 0 }),
      /threads must be 1\.\.256, is 0/,
    ],
    [
      "half a thread",
      (s) => ({ ...s, threads: 1.5 }),
      /threads: needs a whole number/,
    ],
    ["too many rows", (s) => ({ ...s, rowsMax: 1e9 }), /rowsMax/],
    [
      "more out rows than rows",
      (s) => ({ ...s, outRowsMax: 33 }),
      /outRowsMax must be 1\.\.32/,
    ],
    ["an unknown type", weight({ type: 16 }), /type must be .*is 16/],
    ["cols off the block", weight({ cols: 63 }), /multiples of 32, found 63/],
    ["wrong bytes", weight({ bytes: 5 }), /needs \d+ bytes, found 5/],
    ["an offset behind the file", weight({ offset: 1e9 }), /the file has/],
    ["an offset near 2^53", weight({ offset: 2 ** 53 - 1 }), /offset must be/],
    ["a negative offset", weight({ offset: -1 }), /offset must be/],
    ["no rows", weight({ rows: 0, bytes: 0 }), /needs cols/],
    ["huge rows", weight({ rows: 2 ** 40 }), /needs cols/],
    [
      "a KV pool beyond memory",
      kv({ blocks: 2 ** 30, headDim: 1024, layers: 4096 }),
      /KV pool/,
    ],
    ["no KV blocks", kv({ blocks: 0 }), /kv\.blocks/],
    ["another head size", kv({ headDim: 16 }), /op \d+ \(kvWrite\)/],
    [
      "an empty program",
      (s) => ({ ...s, program: { ...s.program, ops: new Int32Array() } }),
      /ops/,
    ],
    [
      "half an op",
      (s) => ({
        ...s,
        program: { ...s.program, ops: s.program.ops.slice(0, -1) },
      }),
      /words/,
    ],
    [
      "ops of another type",
      (s) => ({ ...s, program: { ...s.program, ops: [1] } }),
      /ops: needs an Int32Array/,
    ],
    [
      "no tensors",
      (s) => ({ ...s, program: { ...s.program, tensors: new Int32Array() } }),
      /tensors/,
    ],
    ["a bad opcode", op(Opcode.matmul, 0, 99), /opcode 1\.\.10, found 99/],
    ["a dst out of range", op(Opcode.matmul, 1, 1000), /dst, found 1000/],
    [
      "a tensor read before it is written",
      op(Opcode.rmsNorm, 2, 5),
      /before any op writes it/,
    ],
    ["a weight id out of range", op(Opcode.matmul, 5, -2), /weight id/],
    ["a weight of another shape", op(Opcode.matmul, 5, 1), /needs weight/],
    [
      "a matrix in a vector's place",
      op(Opcode.rmsNorm, 5, 0),
      /as a vector of 64/,
    ],
    ["groups that do not divide", op(Opcode.rmsNorm, 7, 3), /groups/],
    ["an epsilon of NaN", op(Opcode.rmsNorm, 13, nan), /epsilon/],
    ["a layer out of range", op(Opcode.kvWrite, 7, 1), /layer 0\.\.0, found 1/],
    ["heads that do not fit", op(Opcode.attention, 8, 3), /heads/],
    ["an attention scale of NaN", op(Opcode.attention, 13, nan), /scale/],
    ["odd rotated dims", op(Opcode.rope, 9, 31), /even number/],
    ["a rope base of 0", op(Opcode.rope, 13, 0), /base/],
    ["in-place matmul", op(Opcode.matmul, 1, 1), /two tensors|needs weight/],
    ["sampling rows of tokens", op(Opcode.sample, 2, 0), /row kind 1/],
    ["hidden states of tokens", op(Opcode.sample, 3, 0), /row kind 1, found 0/],
    [
      "hidden states of no tensor",
      op(Opcode.sample, 3, 99),
      /as hidden, found 99/,
    ],
    ["hidden states below -1", op(Opcode.sample, 3, -2), /as hidden, found -2/],
  ];
  test.each(cases)("%s", async (_, change, message) => {
    using model = tinyModel();
    await rejects(
      native.loadModel(change(model.spec) as NativeModelSpec),
      (error: Error) => {
        ok(error instanceof Error);
        match(error.message, message);
        match(error.message, /^Cannot /);
        return true;
      },
    );
  });

  test("a getter that throws", async () => {
    using model = tinyModel();
    const spec = Object.defineProperty({ ...model.spec }, "kv", {
      get: () => {
        throw new Error("trap");
      },
    });
    await rejects(native.loadModel(spec), /Cannot read kv/);
  });

  test("a file that ends early, instead of dying of SIGBUS", async () => {
    using model = tinyModel();
    truncateSync(model.file.path, 1000);
    await rejects(
      native.loadModel(model.spec),
      /Cannot load weight w\d+: needs bytes/,
    );
  });
});

describe("step() rejects, with a message,", () => {
  const fill = (length: number, value: number) =>
    new Int32Array(length).fill(value);
  const set = <T extends Int32Array | Float32Array>(
    array: T,
    at: number,
    value: number,
  ): T => {
    const copy = array.slice() as T;
    copy[at] = value;
    return copy;
  };
  const cases: [string, (batch: Batch) => unknown, RegExp][] = [
    ["no object", () => undefined, /Cannot read rows/],
    ["no rows", (b) => ({ ...b, rows: 0 }), /rows must be 1\.\.32, is 0/],
    ["too many rows", (b) => ({ ...b, rows: 33 }), /rows must be/],
    [
      "rows beyond the arrays",
      (b) => ({ ...b, rows: 20 }),
      /tokenIds needs 20/,
    ],
    ["rows of NaN", (b) => ({ ...b, rows: NaN }), /whole number/],
    ["too many out rows", (b) => ({ ...b, outRows: 9 }), /outRows must be/],
    [
      "a token id beyond the vocabulary",
      (b) => ({ ...b, tokenIds: set(b.tokenIds, 1, 40) }),
      /tokenIds\[1\] must be 0\.\.39, is 40/,
    ],
    [
      "a negative token id",
      (b) => ({ ...b, tokenIds: set(b.tokenIds, 0, -1) }),
      /tokenIds\[0\]/,
    ],
    [
      "a position beyond 2^24",
      (b) => ({ ...b, positions: set(b.positions, 0, 2 ** 24) }),
      /positions\[0\]/,
    ],
    [
      "floats as token ids",
      (b) => ({ ...b, tokenIds: new Float32Array(5) }),
      /tokenIds: needs an Int32Array/,
    ],
    ["no sequences", (b) => ({ ...b, sequences: 0 }), /sequences/],
    [
      "a sequence table too short",
      (b) => ({ ...b, sequences: 3 }),
      /sequenceTable needs 12/,
    ],
    [
      "overlapping sequences",
      (b) => ({ ...b, sequenceTable: set(b.sequenceTable, 4, 2) }),
      /sequence 1 needs first row 3/,
    ],
    [
      "rows without a sequence",
      (b) => ({ ...b, sequences: 1 }),
      /cover 5 rows, found 3/,
    ],
    [
      "a sequence without rows",
      (b) => ({ ...b, sequenceTable: set(b.sequenceTable, 1, 0) }),
      /sequence 0/,
    ],
    [
      "negative kvBefore",
      (b) => ({ ...b, sequenceTable: set(b.sequenceTable, 2, -1) }),
      /before the step/,
    ],
    [
      "a table that ends early",
      (b) => ({ ...b, sequenceTable: set(b.sequenceTable, 2, 1000) }),
      /block ids/,
    ],
    [
      "a table start beyond the end",
      (b) => ({ ...b, sequenceTable: set(b.sequenceTable, 3, 2 ** 31 - 1) }),
      /block ids/,
    ],
    [
      "a block out of the pool",
      (b) => ({ ...b, blockTables: set(b.blockTables, 0, 8) }),
      /blockTables\[0\] must be 0\.\.7, is 8/,
    ],
    [
      "a block written twice",
      (b) => ({ ...b, blockTables: fill(b.blockTables.length, 1) }),
      /block 1 needs one place/,
    ],
    [
      "out rows that fall",
      (b) => ({ ...b, outRowIndex: Int32Array.of(4, 2) }),
      /outRowIndex\[1\]/,
    ],
    [
      "an out row beyond the rows",
      (b) => ({ ...b, outRowIndex: Int32Array.of(2, 5) }),
      /outRowIndex\[1\]/,
    ],
    [
      "sampling ints too short",
      (b) => ({ ...b, samplingInts: fill(3, 0) }),
      /samplingInts needs 20/,
    ],
    [
      "a negative topK",
      (b) => ({ ...b, samplingInts: set(b.samplingInts, 0, -1) }),
      /topK/,
    ],
    [
      "21 alternatives",
      (b) => ({ ...b, samplingInts: set(b.samplingInts, 1, 21) }),
      /topLogprobs/,
    ],
    [
      "hidden states asked for by 2",
      (b) => ({ ...b, samplingInts: set(b.samplingInts, 9, 2) }),
      /hidden of out row\[0\] must be 0\.\.1, is 2/,
    ],
    [
      "history out of range",
      (b) => ({ ...b, samplingInts: set(b.samplingInts, 6, 1) }),
      /history of out row 0/,
    ],
    [
      "history at the end of int32",
      (b) => ({ ...b, samplingInts: set(b.samplingInts, 5, 2 ** 31 - 1) }),
      /history/,
    ],
    [
      "negative bias begin",
      (b) => ({ ...b, samplingInts: set(b.samplingInts, 7, -5) }),
      /bias/,
    ],
    [
      "a temperature of NaN",
      (b) => ({ ...b, samplingFloats: set(b.samplingFloats, 0, NaN) }),
      /temperature/,
    ],
    [
      "a topP above 1",
      (b) => ({ ...b, samplingFloats: set(b.samplingFloats, 1, 1.5) }),
      /topP/,
    ],
    [
      "a repetition of 0",
      (b) => ({ ...b, samplingFloats: set(b.samplingFloats, 5, 0) }),
      /repetition/,
    ],
    [
      "logits too short",
      (b) => ({ ...b, logits: new Float32Array(79) }),
      /logits need 80 entries, found 79/,
    ],
  ];
  test.each(cases)(
    "%s, and the next good step works",
    async (_, change, message) => {
      using tiny = tinyModel();
      await withModel(native, tiny.file, tiny.spec, async (model) => {
        const good = makeBatch([
          { tokenIds: [1, 2, 3], blocks: [2], outRows: [2] },
          { tokenIds: [4, 5], blocks: [3], outRows: [1] },
        ]);
        await rejects(model.step(change(good) as Batch), (error: Error) => {
          match(error.message, message);
          match(error.message, /^Cannot /);
          return true;
        });
        equal((await model.step(good)).tokens.length, 2);
      });
    },
  );

  test("bias of +Infinity, bias and history ids beyond the vocabulary", async () => {
    using tiny = tinyModel();
    await withModel(native, tiny.file, tiny.spec, async (model) => {
      const sampled = (sampling: object) =>
        model.step(makeBatch([{ tokenIds: [1] }], { sampling }));
      await rejects(sampled({ bias: [[0, Infinity]] }), /biasValues\[0\]/);
      await rejects(sampled({ bias: [[40, 1]] }), /biasIds\[0\]/);
      await rejects(sampled({ history: [[40, 1]] }), /history id/);
      await rejects(sampled({ history: [[1, -1]] }), /history count/);
    });
  });
});

describe("life of a model", () => {
  test("steps run in order, close() waits for them, later steps reject, kv is dead", async () => {
    using tiny = tinyModel();
    const model = await native.loadModel(tiny.spec);
    equal(model.kv.length, smallKv.blocks * model.kvBlockBytes);
    const order: number[] = [];
    const steps = Array.from(
      { length: 20 },
      (_, i) =>
        model.step(makeBatch([{ tokenIds: [i] }])).then(() => order.push(i)),
    );
    const closed = model.close();
    equal(closed, model.close());
    await closed;
    await Promise.all(steps);
    equal(order.join(), Array.from({ length: 20 }, (_, i) => i).join());
    equal(model.kv.length, 0);
    await rejects(model.step(makeBatch([{ tokenIds: [1] }])), /closed/);
  });

  test("a batch without out rows only writes KV, a transferred pool is survived", async () => {
    using tiny = tinyModel();
    const model = await native.loadModel(tiny.spec);
    const output = await model.step(
      makeBatch([{ tokenIds: [1, 2], outRows: [] }]),
    );
    equal(output.tokens.length, 0);
    ok(model.kv.some((byte) => byte !== 0));
    const moved = transferred(model.kv.buffer as ArrayBuffer);
    await model.step(makeBatch([{ tokenIds: [1, 2] }]));
    await model.close();
    equal(model.kv.length, 0);
    if (moved) new Uint8Array(moved).fill(1);
  });

  test("a pool of threads larger than the machine still finishes", async () => {
    using tiny = tinyModel();
    await withModel(
      native,
      tiny.file,
      { ...tiny.spec, threads: 24 },
      async (model) => {
        const batch = makeBatch([{ tokenIds: [1, 2, 3, 4, 5, 6, 7, 8] }]);
        for (let i = 0; i < 20; i++) await model.step(batch);
      },
    );
  });

  test("threads that change places beside a busy process may still go anywhere", async () => {
    using file = new WeightFile();
    const width = 1024, threads = availableParallelism();
    const builder = new ProgramBuilder();
    const random = new Random(1);
    const weight = file.addFloats(width, width, random.floats(width * width));
    let x = builder.tensor(RowKind.rows, width);
    builder.embed(x, weight);
    for (let i = 0; i < 8; i++) {
      const y = builder.tensor(RowKind.rows, width);
      builder.matmul(y, x, weight);
      x = y;
    }
    file.write();
    const batch = makeBatch([
      { tokenIds: Int32Array.from({ length: 64 }, (_, i) => i), outRows: [] },
    ]);
    const spec = {
      program: builder.build(),
      kv: { ...smallKv, blocks: 32 },
      rowsMax: 128,
      isa: native.isasSupported.at(-1)!,
      threads,
    };
    await withModel(native, file, spec, async (model) => {
      const before = poolCores();
      equal(before.length, threads);
      const busy = spawn("sh", ["-c", "while :; do :; done"]);
      try {
        for (let i = 0; i < 200; i++) await model.step(batch);
      } finally {
        busy.kill("SIGKILL");
      }
      // One that waited may still be about to set its mask back.
      await sleep(50);
      equal(poolCores().join(), before.join());
    });
  });

  test("200 models come and go without leaving memory or threads", async () => {
    const megabyte = 2 ** 20;
    using file = new WeightFile();
    const builder = new ProgramBuilder();
    const x = builder.tensor(RowKind.rows, 512),
      out = builder.tensor(RowKind.outRows, 512);
    builder.embed(
      x,
      file.addFloats(1024, 512, new Random(1).floats(1024 * 512)),
    );
    builder.gather(out, x);
    builder.sample(out);
    file.write();
    const kv = { ...smallKv, blocks: 1024 };
    const cycle = () =>
      withModel(
        native,
        file,
        { program: builder.build(), kv },
        async (model) => {
          await model.step(makeBatch([{ tokenIds: [1] }]));
        },
      );
    for (let i = 0; i < 20; i++) await cycle();
    const before = process.memoryUsage().rss;
    for (let i = 0; i < 200; i++) await cycle();
    const grown = process.memoryUsage().rss - before;
    // One model is 4 MiB: a leak of its weights or its KV would be 400 MiB or more.
    ok(
      grown < 60 * megabyte,
      `RSS grew by ${Math.round(grown / megabyte)} MiB`,
    );
  });
});

/** The cores on which each thread of this process's pools may run. */
function poolCores(): string[] {
  return readdirSync("/proc/self/task").flatMap((id) => {
    const status = readFileSync(`/proc/self/task/${id}/status`, "utf8");
    const field = (name: string) =>
      status.match(new RegExp(`^${name}:\\s*(.*)$`, "m"))?.[1] ?? "";
    return field("Name").startsWith("quetzal-")
      ? [field("Cpus_allowed_list")]
      : [];
  });
}

/** The buffer under another name, as a message to a worker makes it; Bun refuses. */
function transferred(buffer: ArrayBuffer): ArrayBuffer | undefined {
  try {
    return structuredClone(buffer, { transfer: [buffer] });
  } catch {
    return undefined;
  }
}

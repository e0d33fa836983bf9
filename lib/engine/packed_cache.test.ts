/** Packed weights on disk: whatever lies there, tokens are those of the model file. */
import { deepEqual, equal, match, ok, rejects } from "node:assert/strict";
import { execFile } from "node:child_process";
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import process from "node:process";
import { setTimeout as delay } from "node:timers/promises";
import { promisify } from "node:util";
import { afterEach, beforeEach, describe, test } from "vitest";
import { loadNative } from "../../kernels/addon/mod.ts";
import { ggmlTypeIds, readGguf } from "../gguf/mod.ts";
import {
  blockTokens,
  createEngine,
  type NativeModel,
  openModel,
} from "./mod.ts";
import type { Isa } from "./native.ts";
import { makeRoom, packedSpec } from "./packed_cache.ts";
import { promptOf, run } from "./testing/sequences.ts";
import { forcedLogits } from "./testing/teacher_forcing.ts";
import { type TinyModelOptions, writeTinyModel } from "./testing/tiny_model.ts";

const native = loadNative();
const fastest = native.isasSupported.at(-1)!;
const ids = promptOf(40);

let root: string;
let folder: string;
let path: string;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), "quetzal-packed-"));
  folder = join(root, "cache");
  mkdirSync(folder);
  path = join(root, "tiny.gguf");
  writeTinyModel(path, { type: ggmlTypeIds.Q8_0 });
});
afterEach(() => rmSync(root, { recursive: true }));

const cache = () => ({ folder, bytesMax: 2 ** 30 });
const packedFile = (isa: Isa = fastest) =>
  packedSpec(cache(), openModel(readGguf(path)), isa)!.path;

function load(isa: Isa = fastest): Promise<NativeModel> {
  const file = openModel(readGguf(path));
  const { graph } = file;
  return native.loadModel({
    path,
    packed: packedSpec(cache(), file, isa),
    isa,
    threads: 2,
    weights: graph.weights,
    program: graph.program,
    kv: { ...graph.kv, blockTokens, blocks: 4 },
    rowsMax: ids.length,
    outRowsMax: ids.length,
  });
}

interface Loaded {
  readonly logits: Float32Array[];
  readonly isMapped: boolean;
  readonly problem: string;
  readonly isStored: boolean;
}

async function loadAndStore(isa: Isa = fastest): Promise<Loaded> {
  const model = await load(isa);
  try {
    const { vocabSize } = openModel(readGguf(path)).graph;
    return {
      logits: await forcedLogits(model, ids, vocabSize),
      isMapped: model.isMapped!,
      problem: model.packedProblem!,
      isStored: await model.storePacked!(),
    };
  } finally {
    await model.close();
  }
}

describe("a second load maps the file, and logits are the same bits, with", () => {
  const types: [string, TinyModelOptions][] = [
    ["F32", { type: ggmlTypeIds.F32, biases: true, ropeDivisors: true }],
    ["F16", { type: ggmlTypeIds.F16 }],
    ["Q4_0", { type: ggmlTypeIds.Q4_0, tied: true }],
    ["BF16", { type: ggmlTypeIds.BF16 }],
    ["Q8_0", { type: ggmlTypeIds.Q8_0, kvHeads: 4 }],
  ];
  for (const [name, options] of types) {
    for (const isa of native.isasSupported) {
      test(`${name} on ${isa}`, async () => {
        writeTinyModel(path, options);
        const first = await loadAndStore(isa);
        deepEqual([first.isMapped, first.problem], [false, ""]);
        ok(first.isStored);
        const second = await loadAndStore(isa);
        deepEqual([second.isMapped, second.problem], [true, ""]);
        ok(!second.isStored);
        deepEqual(second.logits, first.logits);
      });
    }
  }
});

test("instruction sets that pack alike share a file", async () => {
  const [, ...vectorIsas] = native.isasSupported;
  const loads: Loaded[] = [];
  for (const isa of vectorIsas) loads.push(await loadAndStore(isa));
  deepEqual(loads.map(({ isMapped }) => isMapped), loads.map((_, i) => i > 0));
  equal(readdirSync(folder).length, 1);
});

/** A word of the head in 4 bytes from its start, see packed_file.cpp. */
const layoutVersionAt = 8;

function flip(at: number): (file: string) => void {
  return (file) => {
    const bytes = readFileSync(file);
    bytes[at] ^= 0x10;
    writeFileSync(file, bytes);
  };
}

describe("a file is not used but replaced that", () => {
  const damages: [string, (file: string) => void, RegExp][] = [
    ["is empty", (file) => truncateSync(file, 0), /ends within its head/],
    ["ends in its head", (file) => truncateSync(file, 200), /ends within/],
    ["lacks its last byte", (file) => {
      truncateSync(file, statSync(file).size - 1);
    }, /it has \d+ bytes, needed are \d+/],
    ["lacks all of its image", (file) => truncateSync(file, 8192), /needed/],
    ["has a byte more", (file) => {
      truncateSync(file, statSync(file).size + 1);
    }, /it has \d+ bytes, needed/],
    ["is something else", (file) => {
      writeFileSync(file, "something else ".repeat(1000));
    }, /does not begin as a file of packed weights/],
    ["is of another version", flip(layoutVersionAt), /version 17, needed is 1/],
    ["is of another layout", flip(16), /another layout/],
    ["is of another model", flip(32), /another model file/],
    ["is of another size of model file", flip(96), /another model file/],
    ["has its weights elsewhere", flip(144), /table of weights/],
    ["may be written by the group", (file) => {
      chmodSync(file, 0o660);
    }, /others may write it/],
    ["may be written by all", (file) => {
      chmodSync(file, 0o602);
    }, /others may write it/],
    ["is a link", (file) => {
      renameSync(file, join(root, "elsewhere"));
      symlinkSync(join(root, "elsewhere"), file);
    }, /cannot be opened/],
  ];
  if (process.geteuid?.() === 0) {
    damages.push(["belongs to another user", (file) => {
      chownSync(file, 65534, 65534);
    }, /belongs to another user/]);
  }
  for (const [what, damage, problem] of damages) {
    test(what, async () => {
      const before = await loadAndStore();
      damage(packedFile());
      const damaged = await loadAndStore();
      match(damaged.problem, problem);
      deepEqual([damaged.isMapped, damaged.isStored], [false, true]);
      deepEqual(damaged.logits, before.logits);
      const after = await loadAndStore();
      deepEqual([after.isMapped, after.problem], [true, ""]);
      deepEqual(after.logits, before.logits);
    });
  }
});

test("a flipped bit anywhere in the head is seen", async () => {
  await (await loadAndStore());
  const file = packedFile();
  const whole = readFileSync(file);
  const { weights } = openModel(readGguf(path)).graph;
  const headBytes = 144 + 48 * weights.length;
  for (let at = 0; at < headBytes; at += 3) {
    const bytes = Uint8Array.from(whole);
    bytes[at] ^= 1 << at % 8;
    writeFileSync(file, bytes);
    await using model = closing(await load());
    ok(!model.isMapped && model.packedProblem, `byte ${at}`);
  }
});

test("a model file that was written anew gets its own file", async () => {
  const first = await loadAndStore();
  writeTinyModel(path, { type: ggmlTypeIds.Q8_0, seed: 2 });
  const second = await loadAndStore();
  deepEqual([second.isMapped, second.isStored], [false, true]);
  ok(
    second.logits.some((row, i) =>
      row.some((x, j) => x !== first.logits[i][j])
    ),
  );
});

test("of two writers one writes", async () => {
  await using a = closing(await load());
  await using b = closing(await load());
  const stored = await Promise.all([a.storePacked!(), b.storePacked!()]);
  equal(stored.filter(Boolean).length, 1);
  equal(readdirSync(folder).length, 1);
});

test("what a writer left behind is taken over", async () => {
  writeFileSync(`${packedFile()}.unfinished`, "half", { mode: 0o600 });
  ok((await loadAndStore()).isStored);
  deepEqual((await loadAndStore()).isMapped, true);
  equal(readdirSync(folder).length, 1);
});

test("a model that closes stops its writer, and nothing half stays", async () => {
  const model = await load();
  const stored = model.storePacked!();
  await model.close();
  equal(await stored, existsSync(packedFile()));
  ok(!existsSync(`${packedFile()}.unfinished`));
  equal(await model.storePacked!(), false);
});

test("a folder in the file's place is a fault of the store alone", async () => {
  mkdirSync(packedFile());
  await using model = closing(await load());
  match(model.packedProblem!, /no regular file/);
  await rejects(model.storePacked!(), /Cannot write .*: /);
  deepEqual(readdirSync(folder).length, 1);
});

const prompt = promptOf(20);
const isMappedNow = () =>
  readFileSync("/proc/self/maps", "utf8").includes(folder);

async function engineTokens(
  options: { packedFolder?: string; bytesMax?: number } = {},
) {
  const warnings: string[] = [];
  const { packedFolder, bytesMax = 2 ** 30 } = options;
  await using engine = await createEngine({
    path,
    native,
    kvBlocks: 8,
    packedCache: packedFolder === undefined
      ? undefined
      : { folder: packedFolder, bytesMax },
    onWarning: (message, cause) => void warnings.push(`${message}: ${cause}`),
  });
  const isMapped = isMappedNow();
  const { ids } = await run(engine, { prompt, maxTokens: 12 });
  // The file is written beside the steps.
  for (let i = 0; i < 200 && packedFolder && warnings.length === 0; i++) {
    if (isMapped || existsSync(packedFile())) break;
    await delay(10);
  }
  return { ids, isMapped, warnings };
}

test("an engine that sleeps and wakes maps the file, and lets go of it", async () => {
  const plain = await engineTokens();
  ok(!existsSync(packedFile()));
  const first = await engineTokens({ packedFolder: folder });
  ok(!first.isMapped);
  for (let i = 0; i < 3; i++) {
    const woken = await engineTokens({ packedFolder: folder });
    ok(woken.isMapped);
    deepEqual([woken.ids, woken.warnings], [plain.ids, []]);
    ok(!isMappedNow());
  }
  deepEqual(first.ids, plain.ids);
});

test("a file that is removed while mapped serves on", async () => {
  await loadAndStore();
  await using model = closing(await load());
  ok(model.isMapped);
  const { vocabSize } = openModel(readGguf(path)).graph;
  const before = await forcedLogits(model, ids, vocabSize);
  rmSync(packedFile());
  deepEqual(await forcedLogits(model, ids, vocabSize), before);
});

describe("an engine warns and goes on without when", () => {
  const cases: [string, () => Parameters<typeof engineTokens>[0], RegExp][] = [
    [
      "the folder cannot be made",
      () => ({ packedFolder: join(path, "x") }),
      /ENOTDIR|Not a directory/i,
    ],
    [
      "the folder cannot be written",
      () => ({ packedFolder: "/proc/self" }),
      /Cannot keep packed weights/,
    ],
    [
      "the limit is too small",
      () => ({ packedFolder: folder, bytesMax: 1000 }),
      /needs \d+ bytes within the 1000/,
    ],
  ];
  for (const [what, options, warning] of cases) {
    test(what, async () => {
      const plain = await engineTokens();
      const { ids, warnings } = await engineTokens(options());
      deepEqual(ids, plain.ids);
      equal(warnings.length, 1);
      match(warnings[0], warning);
      deepEqual(readdirSync(folder), []);
    });
  }
});

const bun = join(
  import.meta.dirname!,
  "../../node_modules/@oven/bun-linux-x64/bin/bun",
);
const probe = join(import.meta.dirname!, "testing/packed_probe.ts");

async function runProbe(before = "") {
  const { stdout } = await promisify(execFile)(
    "bash",
    ["-c", `${before} exec "$0" "$@"`, bun, probe, path, folder],
  );
  return JSON.parse(stdout);
}

test("two processes at once get the same tokens, and one writes", async () => {
  const { ids } = await engineTokens();
  const found = await Promise.all([runProbe(), runProbe()]);
  deepEqual(found.map((one) => [one.ids, one.warnings]), [[ids, []], [
    ids,
    [],
  ]]);
  equal(found.filter(({ isStored }) => isStored).length, 1);
  deepEqual(readdirSync(folder).length, 1);
});

test("a disk that takes no more is a warning, and leaves nothing behind", async () => {
  const { ids } = await engineTokens();
  // 512-byte blocks: 100 kB, less than the file needs.
  const found = await runProbe("ulimit -f 200;");
  deepEqual([found.ids, found.isStored], [ids, false]);
  match(found.warnings[0], /needs \d+ bytes of disk: File too large/);
  deepEqual(readdirSync(folder), []);
});

describe("makeRoom()", () => {
  const put = (name: string, bytes: number, usedS: number) => {
    const file = join(folder, name);
    writeFileSync(file, new Uint8Array(bytes));
    utimesSync(file, usedS, usedS);
  };
  const left = () => readdirSync(folder).sort();

  test("removes what was not used for the longest time, and no more", async () => {
    put("a.packed", 100, 3);
    put("b.packed", 100, 1);
    put("c.packed", 100, 2);
    put("notes.txt", 1000, 0);
    await makeRoom({ folder, bytesMax: 300 }, 0);
    equal(left().length, 4);
    await makeRoom({ folder, bytesMax: 300 }, 150);
    deepEqual(left(), ["a.packed", "notes.txt"]);
  });

  test("leaves what is being written, and removes what was left behind", async () => {
    put("a.packed.unfinished", 100, Date.now() / 1000);
    put("b.packed.unfinished", 100, 1);
    put("c.packed", 100, 2);
    await rejects(
      makeRoom({ folder, bytesMax: 100 }, 50),
      /needs 50 bytes within the 100 .*, 100 are taken/,
    );
    deepEqual(left(), ["a.packed.unfinished"]);
  });
});

test("a load marks its file as used", async () => {
  await loadAndStore();
  utimesSync(packedFile(), 1, 1);
  await loadAndStore();
  ok(statSync(packedFile()).mtimeMs > 1e12);
  equal(dirname(packedFile()), folder);
});

function closing(model: NativeModel): NativeModel & AsyncDisposable {
  return Object.assign(model, { [Symbol.asyncDispose]: () => model.close() });
}

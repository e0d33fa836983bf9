import { deepEqual, equal, match, ok, throws } from "node:assert/strict";
import {
  mkdtempSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import fc from "fast-check";
import { afterAll, test } from "vitest";
import { MeshError } from "../errors/mesh_error.ts";
import {
  ggmlTypeIds,
  gguf,
  readGguf,
  writeGguf,
  type WriteValue,
} from "./mod.ts";

const folder = mkdtempSync(join(tmpdir(), "quetzal-gguf-"));
const path = join(folder, "file.gguf");
afterAll(() => rmSync(folder, { recursive: true }));

/** A small file with every kind of metadata value and two tensors. */
function smallFile(): Uint8Array {
  writeGguf(path, {
    metadata: {
      "general.architecture": gguf.string("llama"),
      "a.u8": { type: "u8", value: 255 },
      "a.i8": { type: "i8", value: -128 },
      "a.u16": { type: "u16", value: 65535 },
      "a.i16": { type: "i16", value: -32768 },
      "a.i32": gguf.i32(-1),
      "a.f32": gguf.f32(1.5),
      "a.f64": { type: "f64", value: Math.PI },
      "a.u64": gguf.u64(2n ** 63n),
      "a.i64": { type: "i64", value: -5n },
      "a.bool": gguf.bool(true),
      "a.flags": gguf.array("bool", [true, false]),
      "a.strings": gguf.array("string", [
        "",
        "ab",
        "Ġ",
        "日本",
        "x".repeat(40),
      ]),
      "a.numbers": gguf.array("i32", [1, -2, 3]),
    },
    tensors: [
      {
        name: "x.weight",
        type: ggmlTypeIds.Q8_0!,
        dims: [32, 2],
        data: new Uint8Array(68).fill(1),
      },
      {
        name: "y",
        type: ggmlTypeIds.F32!,
        dims: [3],
        data: new Uint8Array(12).fill(2),
      },
    ],
  });
  return new Uint8Array(readFileSync(path));
}

function refuses(bytes: Uint8Array, pattern: RegExp): void {
  writeFileSync(path, bytes);
  throws(() => readGguf(path), (error: unknown) => {
    ok(error instanceof MeshError, `not a MeshError: ${error}`);
    match(error.message, pattern);
    ok(error.message.includes(path), "names the file");
    match(error.message, /expected .*found /);
    return true;
  });
}

test("readGguf() returns what writeGguf() wrote", () => {
  smallFile();
  const file = readGguf(path);
  equal(file.version, 3);
  equal(file.metadata.get("a.u8"), 255);
  equal(file.metadata.get("a.i8"), -128);
  equal(file.metadata.get("a.u16"), 65535);
  equal(file.metadata.get("a.i16"), -32768);
  equal(file.metadata.get("a.f64"), Math.PI);
  equal(file.metadata.get("a.u64"), 2n ** 63n);
  equal(file.metadata.integer("a.i64"), -5);
  equal(file.metadata.number("a.f32"), 1.5);
  equal(file.metadata.boolean("a.bool"), true);
  deepEqual(file.metadata.get("a.flags"), [true, false]);
  deepEqual(file.metadata.strings("a.strings"), [
    "",
    "ab",
    "Ġ",
    "日本",
    "x".repeat(40),
  ]);
  deepEqual(file.metadata.get("a.numbers"), Int32Array.of(1, -2, 3));
  const [x, y] = [...file.tensors.values()];
  equal(x!.offset % 32, 0);
  equal(y!.offset, x!.offset + 96);
  deepEqual([x!.bytes, y!.bytes], [68, 12]);
  equal(readFileSync(path)[y!.offset], 2);
});

test("metadata look-ups name file, key, needed and found", () => {
  smallFile();
  const { metadata } = readGguf(path);
  throws(
    () => metadata.string("a.u8"),
    /file\.gguf": key "a\.u8": expected a string, found the number 255/,
  );
  throws(
    () => metadata.integer("a.f32"),
    /expected an integer below 2\^53, found the number 1\.5/,
  );
  throws(() => metadata.integer("a.u64"), /expected an integer below 2\^53/);
  throws(
    () => metadata.strings("a.numbers"),
    /found an array of 3 \(Int32Array\)/,
  );
  throws(
    () => metadata.integer("none"),
    /key "none": expected an integer below 2\^53, found no such key/,
  );
  equal(metadata.integer("none", 7), 7);
});

test("a file cut at any byte is refused", () => {
  const whole = smallFile();
  for (let size = 0; size < whole.length; size++) {
    // The last tensor ends 20 bytes before the padding does.
    if (size >= whole.length - 20) continue;
    writeFileSync(path, whole);
    truncateSync(path, size);
    throws(() => readGguf(path), MeshError, `cut at ${size}`);
  }
});

/** A header by hand: what the writer would refuse to write. */
class Bytes {
  readonly parts: number[] = [];
  u32(...values: number[]): this {
    for (const value of values) {
      for (let i = 0; i < 32; i += 8) this.parts.push((value >>> i) & 255);
    }
    return this;
  }
  u64(value: bigint | number): this {
    const wide = BigInt(value);
    return this.u32(
      Number(wide & 0xffffffffn),
      Number((wide >> 32n) & 0xffffffffn),
    );
  }
  text(text: string): this {
    const bytes = new TextEncoder().encode(text);
    this.u64(bytes.length).parts.push(...bytes);
    return this;
  }
  raw(...bytes: number[]): this {
    this.parts.push(...bytes);
    return this;
  }
  pad(multiple = 32): this {
    while (this.parts.length % multiple !== 0) this.parts.push(0);
    return this;
  }
  done(): Uint8Array {
    return Uint8Array.from(this.parts);
  }
}

const magic = 0x46554747;
const start = (tensors: bigint | number, keys: bigint | number, version = 3) =>
  new Bytes().u32(magic, version).u64(tensors).u64(keys);
const oneKey = (key = "k") => start(0, 1).text(key);
const tensor = (
  bytes: Bytes,
  name: string,
  dims: (bigint | number)[],
  type: number,
  offset: bigint | number,
) => {
  bytes.text(name).u32(dims.length);
  for (const dim of dims) bytes.u64(dim);
  return bytes.u32(type).u64(offset);
};
const huge = 2n ** 63n;

const broken: Record<string, [bytes: Uint8Array, complaint: RegExp]> = {
  "empty": [
    new Uint8Array(0),
    /magic at byte 0: expected 4 bytes, found 0 bytes/,
  ],
  "another magic": [
    new Bytes().u32(0x12345678, 3).u64(0).u64(0).done(),
    /magic/,
  ],
  "version 1": [start(0, 0, 1).done(), /version .*expected 2 or 3, found 1/],
  "version 4": [start(0, 0, 4).done(), /version .*found 4/],
  "big-endian": [
    start(0, 0, 0x03000000).done(),
    /expected 2 or 3, little-endian, found a big-endian/,
  ],
  "huge tensor count": [
    start(huge, 0).pad().done(),
    /tensor count .*found 9223372036854775808/,
  ],
  "negative tensor count": [start(2n ** 64n - 1n, 0).done(), /tensor count/],
  "huge key count": [start(0, huge).pad(256).done(), /metadata key count/],
  "key count beyond the file": [
    start(0, 100).pad(256).done(),
    /metadata key count .*expected at most/,
  ],
  "huge key length": [start(0, 1).u64(huge).pad(64).done(), /metadata key 0/],
  "empty key": [
    start(0, 1).u64(0).u32(4, 1).done(),
    /metadata key 0 .*expected a name/,
  ],
  "repeated key": [
    start(0, 2).text("k").u32(4, 1).text("k").u32(4, 2).pad(64).done(),
    /"k" again/,
  ],
  "unknown value type": [oneKey().u32(13, 0).done(), /key "k" type .*found 13/],
  "huge string": [
    oneKey().u32(8).u64(huge).pad(64).done(),
    /key "k" .*length limit/,
  ],
  "string beyond the file": [
    oneKey().u32(8).u64(100).pad(64).done(),
    /key "k" .*expected 100 bytes/,
  ],
  "bad UTF-8": [
    oneKey().u32(8).u64(2).raw(0xc0, 0x80).done(),
    /key "k" .*expected valid UTF-8/,
  ],
  "long bad UTF-8": [
    oneKey().u32(8).u64(30).raw(...Array(30).fill(0xff)).done(),
    /valid UTF-8/,
  ],
  "surrogate in UTF-8": [
    oneKey().u32(8).u64(3).raw(0xed, 0xa0, 0x80).done(),
    /valid UTF-8/,
  ],
  "a string that ends within a character": [
    oneKey().u32(9, 8).u64(2).u64(1).raw(0xc3).u64(1).raw(0xa9).pad(64).done(),
    /key "k" .*expected valid UTF-8/,
  ],
  "surrogate in an array": [
    oneKey().u32(9, 8).u64(1).u64(3).raw(0xed, 0xa0, 0x80).pad(64).done(),
    /key "k" .*expected valid UTF-8/,
  ],
  "huge string in an array": [
    oneKey().u32(9, 8).u64(2).u64(1).raw(65).u64(huge).pad(64).done(),
    /key "k" .*length limit/,
  ],
  "string of an array beyond the file": [
    oneKey().u32(9, 8).u64(2).u64(1).raw(65).u64(100).pad(64).done(),
    /key "k" .*expected 100 bytes, found \d+ bytes before the end/,
  ],
  "boolean 2": [oneKey().u32(7).raw(2).done(), /boolean byte 0 or 1, found 2/],
  "array of arrays": [
    oneKey().u32(9, 9).u64(1).u32(4).u64(0).done(),
    /found an array of arrays/,
  ],
  "array of unknown type": [
    oneKey().u32(9, 77).u64(0).done(),
    /element type .*found 77/,
  ],
  "huge array of numbers": [
    oneKey().u32(9, 4).u64(2n ** 40n).pad(64).done(),
    /key "k" length/,
  ],
  "huge array of strings": [
    oneKey().u32(9, 8).u64(2n ** 29n).pad(64).done(),
    /key "k" length/,
  ],
  "array beyond the file": [
    oneKey().u32(9, 4).u64(20).pad(64).done(),
    /key "k" length .*found 20/,
  ],
  "alignment 0": [
    start(0, 1).text("general.alignment").u32(4, 0).done(),
    /general\.alignment.*power of two/,
  ],
  "alignment 48": [
    start(0, 1).text("general.alignment").u32(4, 48).done(),
    /found 48/,
  ],
  "alignment 2 MiB": [
    start(0, 1).text("general.alignment").u32(4, 1 << 21).done(),
    /found 2097152/,
  ],
  "alignment as text": [
    start(0, 1).text("general.alignment").u32(8).text("32").done(),
    /power of two/,
  ],
  "one part of a split file": [
    start(0, 1).text("split.count").u32(4, 3).done(),
    /split\.count.*found one part of 3/,
  ],
  "empty tensor name": [
    tensor(start(1, 0), "", [1], 0, 0).pad(128).done(),
    /tensor 0 name .*expected a name/,
  ],
  "long tensor name": [
    tensor(start(1, 0), "n".repeat(64), [1], 0, 0).pad(256).done(),
    /tensor 0 name/,
  ],
  "no dims": [
    tensor(start(1, 0), "t", [], 0, 0).pad(256).done(),
    /dims count .*found 0/,
  ],
  "five dims": [
    tensor(start(1, 0), "t", [1, 1, 1, 1, 1], 0, 0).pad(256).done(),
    /dims count .*found 5/,
  ],
  "zero dim": [
    tensor(start(1, 0), "t", [4, 0], 0, 0).pad(256).done(),
    /dim 1 .*found 0/,
  ],
  "huge dim": [tensor(start(1, 0), "t", [huge], 0, 0).pad(256).done(), /dim 0/],
  "overflowing dims": [
    tensor(start(1, 0), "t", [2 ** 31, 2 ** 31, 4], 0, 0).pad(256).done(),
    /dim/,
  ],
  "removed type 4": [
    tensor(start(1, 0), "t", [32], 4, 0).pad(256).done(),
    /type .*found 4/,
  ],
  "removed type 36": [
    tensor(start(1, 0), "t", [32], 36, 0).pad(256).done(),
    /type .*found 36/,
  ],
  "type 4294967295": [
    tensor(start(1, 0), "t", [32], 0xffffffff, 0).pad(256).done(),
    /type/,
  ],
  "half a block": [
    tensor(start(1, 0), "t", [33], 8, 0).pad(256).done(),
    /multiple of 32 elements for Q8_0, found 33/,
  ],
  "data beyond the file": [
    tensor(start(1, 0), "t", [1000], 0, 0).pad().done(),
    /tensor "t" .*expected a file of at least/,
  ],
  "offset beyond the file": [
    tensor(start(1, 0), "t", [1], 0, huge).pad(256).done(),
    /offset/,
  ],
  "gap before a tensor": [
    tensor(start(1, 0), "t", [1], 0, 32).pad(256).done(),
    /offset .*expected 0/,
  ],
  "overlapping tensors": [
    tensor(tensor(start(2, 0), "t", [16], 0, 0), "u", [16], 0, 32).pad(1024)
      .done(),
    /tensor "u" offset .*expected 64, right after the one before, found 32/,
  ],
  "repeated tensor": [
    tensor(tensor(start(2, 0), "t", [1], 0, 0), "t", [1], 0, 32).pad(1024)
      .done(),
    /tensor "t" .*expected a new name/,
  ],
};

for (const [name, [bytes, complaint]] of Object.entries(broken)) {
  test(`a broken file is refused: ${name}`, () => refuses(bytes, complaint));
}

test("hostile counts cost neither time nor memory", () => {
  // A sparse gigabyte: counts that the file size alone would allow.
  const bytes = oneKey().u32(9, 8).u64(2n ** 26n).done();
  writeFileSync(path, bytes);
  truncateSync(path, 2 ** 30);
  const before = process.memoryUsage().rss;
  const startMs = performance.now();
  throws(() => readGguf(path), /key "k" length .*found 67108864/);
  ok(performance.now() - startMs < 500, "time");
  ok(process.memoryUsage().rss - before < 64 * 2 ** 20, "memory");
});

test("a missing file is not found, and a folder is no file", () => {
  throws(() => readGguf(join(folder, "none")), { name: "MeshError", code: 5 });
  throws(() => readGguf(folder), MeshError);
});

test("changed bytes never lead to anything but a file or a MeshError", () => {
  const whole = smallFile();
  const header = whole.length - 128;
  const change = fc.tuple(
    fc.nat(header),
    fc.oneof(fc.nat(255), fc.constantFrom(0, 1, 127, 128, 255)),
  );
  fc.assert(
    fc.property(fc.array(change, { minLength: 1, maxLength: 6 }), (changes) => {
      const bytes = whole.slice();
      for (const [at, value] of changes) bytes[at] = value;
      writeFileSync(path, bytes);
      try {
        const { tensors } = readGguf(path);
        for (const { offset, bytes: size } of tensors.values()) {
          ok(offset + size <= whole.length);
        }
      } catch (error) {
        ok(error instanceof MeshError, `${error}`);
      }
    }),
    { numRuns: 800 },
  );
});

test("what is written is read, whatever the values", () => {
  const value: fc.Arbitrary<WriteValue> = fc.oneof(
    fc.string({ unit: "binary" }).map(gguf.string),
    fc.boolean().map(gguf.bool),
    fc.integer().map(gguf.i32),
    fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }).map(gguf.u64),
    fc.float({ noNaN: true }).map(gguf.f32),
    fc.array(fc.string({ unit: "grapheme" })).map((each) =>
      gguf.array("string", each)
    ),
    fc.array(fc.nat(255)).map((each) => gguf.array("u8", each)),
  );
  const key = fc.string({ minLength: 1, maxLength: 20 })
    .filter((each) =>
      !["general.alignment", "split.count", "__proto__"].includes(each)
    );
  fc.assert(
    fc.property(
      fc.dictionary(key, value),
      fc.constantFrom(8, 32, 64, 4096),
      (metadata, alignment) => {
        writeGguf(path, {
          metadata,
          alignment,
          tensors: [{ name: "t", type: 0, dims: [1], data: new Uint8Array(4) }],
        });
        const file = readGguf(path);
        equal(file.alignment, alignment);
        equal(file.tensors.get("t")!.offset % alignment, 0);
        for (const [name, { value: written }] of Object.entries(metadata)) {
          const read = file.metadata.get(name);
          if (typeof read === "object") {
            deepEqual([...read], [
              ...written as ArrayLike<unknown> & Iterable<unknown>,
            ]);
          } else equal(read, written);
        }
      },
    ),
    { numRuns: 100 },
  );
});

test("strings of an array are whole wherever the reader's window ends", () => {
  const texts = Array.from(
    { length: 60_000 },
    (_, i) => `é${"x".repeat(i % 97)}日${i}`,
  );
  const long = ["a".repeat(3_000_000), "", "b".repeat(2_000_000)];
  writeGguf(path, {
    metadata: {
      texts: gguf.array("string", texts),
      long: gguf.array("string", long),
      last: gguf.string("here"),
    },
    tensors: [{ name: "t", type: 0, dims: [1], data: new Uint8Array(4) }],
  });
  const { metadata } = readGguf(path);
  equal(metadata.string("last"), "here");
  deepEqual(metadata.strings("texts"), texts);
  deepEqual(metadata.get("long"), long);
});

test("the metadata of a 128k-token vocabulary is read within 300 ms", () => {
  const tokens = Array.from(
    { length: 128_256 },
    (_, id) => `Ġtoken${id.toString(36)}`,
  );
  const merges = Array.from(
    { length: 280_000 },
    (_, id) => `Ġ${id.toString(36)} tok`,
  );
  writeGguf(path, {
    metadata: {
      tokens: gguf.array("string", tokens),
      merges: gguf.array("string", merges),
    },
  });
  const times = Array.from({ length: 3 }, () => {
    const start = process.cpuUsage();
    equal(readGguf(path).metadata.strings("merges").length, 280_000);
    const { user, system } = process.cpuUsage(start);
    return (user + system) / 1000;
  });
  // Processor time, fastest of three: the machine of the tests is shared.
  ok(Math.min(...times) < 300, `${times.map((each) => each.toFixed(0))} ms`);
});

test("the demo model declares its 39 tensors", () => {
  const demo = fileURLToPath(
    new URL("../../models/quetzal-demo-q8_0.gguf", import.meta.url),
  );
  const file = readGguf(demo);
  equal(file.tensors.size, 39);
  equal(file.metadata.string("general.architecture"), "llama");
  deepEqual(file.tensors.get("token_embd.weight")!.dims, [512, 4096]);
});

import { deepEqual, equal, ok } from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { dirname, join } from "node:path";
import { test } from "vitest";
import { buildKernels } from "./build.ts";

test("buildKernels() has nothing to do the second time", async () => {
  const first = await buildKernels();
  const second = await buildKernels();
  equal(second.built, false);
  equal(second.path, first.path);
});

test("files of one instruction set export nothing but their table", async () => {
  const { path } = await buildKernels();
  const tables = {
    avx2: "avx2Table",
    avx512: "avx512Table",
    amx: "amxKernels",
    amx_emulated: "amxEmulatedKernels",
  };
  for (const [isa, table] of Object.entries(tables)) {
    const object = join(dirname(path), "kernels", `cpu_${isa}_kernels.o`);
    const symbols = execFileSync("nm", ["-C", "--defined-only", object], {
      encoding: "utf8",
    });
    // Lower case is local; weak code (W, V, u) could be linked into other files.
    const shared = symbols.split("\n").filter((line) =>
      / [A-Zuvw] /.test(line)
    );
    ok(symbols.includes(table));
    deepEqual(
      shared.map((line) => line.split(" ").at(-1)),
      [`quetzal::${table}`],
    );
    // What runs when the library is loaded runs on every processor.
    const sections = execFileSync("objdump", ["-h", object], {
      encoding: "utf8",
    });
    ok(sections.includes(".text"));
    ok(!/\.(init_array|ctors)/.test(sections), `${object} runs code at load`);
  }
});

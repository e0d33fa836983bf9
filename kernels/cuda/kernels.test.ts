import { deepEqual, equal, ok } from "node:assert/strict";
import { execFile } from "node:child_process";
import { beforeAll, describe, test } from "vitest";
import { buildEmulation, buildFatbin, type EmulationBuild } from "./build.ts";

/**
 * Every CUDA kernel, run by the emulation in three orders of threads and compared with
 * its plain twin by `check/`. Here the outcomes are judged and their coverage counted.
 */
interface Outcome {
  readonly kernel: string;
  readonly case: string;
  readonly error: number | null;
  readonly tolerance: number;
  readonly ok: boolean;
  readonly fault: string;
}

/** What `check --bench` tells; by emulation only that it runs. */
interface Bench {
  readonly kernels: readonly { readonly kernel: string; readonly us: number }[];
  readonly models: readonly {
    readonly skipped?: string;
    readonly period_us: number;
    readonly device_us: number;
  }[];
}

let build: EmulationBuild;
let outcomes: readonly Outcome[];
beforeAll(async () => {
  build = await buildEmulation();
  ({ cases: outcomes } = await runCheck<{ cases: readonly Outcome[] }>(
    ["--json"],
  ));
}, 600_000);

/** Exit status 1 says that cases failed, which the tests below say better. */
function runCheck<Told>(args: readonly string[]): Promise<Told> {
  const { check, library } = build;
  return new Promise((resolve, reject) => {
    execFile(check, ["--library", library, "--fatbin", library, ...args], {
      env: { ...process.env, QUETZAL_FAKE_CUDA_QUIET: "1" },
      maxBuffer: 1 << 26,
    }, (error, stdout, stderr) => {
      try {
        resolve(JSON.parse(stdout));
      } catch {
        reject(new Error(`check failed: ${error?.message}\n${stderr}`));
      }
    });
  });
}

/** Kernels, with the fewest cases that still mean something. */
const expected: readonly [kernel: string, casesMin: number][] = [
  ["matmul_gemv", 60],
  ["matmul_tile", 50],
  ["norm_rows", 20],
  ["norm_groups", 3],
  ["silu_mul", 10],
  ["prepare", 1],
  ["add_rows, gather_rows", 3],
  ["embed_rows", 8],
  ["rope_table, rope_kv", 4],
  ["attention, attention_finish", 12],
  ["sample_rows", 40],
  ["verify_drafts", 1],
];

describe("CUDA kernels by emulation", () => {
  test.each(expected)("%s agrees with its twin", (kernel, casesMin) => {
    const cases = outcomes.filter((outcome) => outcome.kernel === kernel);
    ok(cases.length >= casesMin, `${cases.length} cases`);
    for (const { case: name, error, tolerance, fault } of cases) {
      equal(fault, "", name);
      ok(error !== null && error <= tolerance, `${name}: ${error}`);
    }
  });

  test("no kernel goes unnamed here", () => {
    const found = new Set(outcomes.map(({ kernel }) => kernel));
    deepEqual(
      [...found].sort(),
      ["emulation", ...expected.map(([kernel]) => kernel)].sort(),
    );
  });

  test.each([
    ["a missing barrier", "faulty_barrier"],
    ["a read of memory that a copy has not reached", "faulty_async"],
    ["a read of shared memory that nobody wrote", "faulty_uninitialized"],
    ["a write behind a global array", "faulty_global"],
    ["a read before a global array", "faulty_global_before"],
    ["a write behind a shared array", "faulty_shared"],
    ["threads at different barriers", "faulty_divergence"],
    ["threads that end while others wait", "faulty_exit"],
    ["a warp operation that a lane misses", "faulty_warp"],
  ])("the emulation catches %s", (_, name) => {
    const cases = outcomes.filter((outcome) =>
      outcome.kernel === "emulation" && outcome.case === name
    );
    ok(cases.length > 0);
    for (const { fault } of cases) equal(fault, "");
  });

  test("the emulation passes what is right", () => {
    for (const name of ["correct_barrier", "correct_async"]) {
      const found = outcomes.find((outcome) => outcome.case === name);
      equal(found?.fault, "");
    }
  });
});

test(
  "the benchmark measures every kind of kernel and whole steps",
  async () => {
    const { kernels, models } = await runCheck<Bench>(["--bench", "60"]);
    const names = kernels.map(({ kernel }) => kernel).join("; ");
    for (
      const name of [
        /matmul_gemv_1 Q4_K/,
        /matmul_tile_16 BF16/,
        /attention \+ attention_finish/,
        /norm_rows/,
        /silu_mul/,
        /embed_rows/,
        /rope_kv/,
        /sample_rows, greedy/,
        /sample_rows, top-k/,
      ]
    ) ok(name.test(names), `no ${name} in ${names}`);
    ok(kernels.every(({ us }) => us > 0));
    ok(models.length > 0);
    for (const { skipped, period_us, device_us } of models) {
      equal(skipped, undefined);
      ok(period_us > 0 && device_us > 0);
    }
  },
  120_000,
);

test("nvcc compiles the kernels, or its absence is said", async () => {
  const result = await buildFatbin();
  if (result.kind === "absent") ok(/needs nvcc/.test(result.why));
  else ok(result.path.endsWith("quetzal.fatbin"));
}, 180_000);

/**
 * How near the matmuls come to the machine's roof: `deno run -A
 * kernels/bench/matmul.bench.ts [--threads N] [--json]`.
 *
 * One row is bound by reading weights, many rows by int8 products. Both roofs are
 * measured by `roof.cpp` before and after, and the better one counts, for other
 * processes can only make it lower. Times are the best of several steps of a program
 * of matmuls whose weights (about 134 MB as int8) exceed any cache.
 */
import { execFileSync } from "node:child_process";
import { mkdirSync } from "node:fs";
import { availableParallelism } from "node:os";
import { dirname, join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import type { Isa, NativeModel } from "../../lib/engine/native.ts";
import {
  ProgramBuilder,
  RowKind,
  type TensorId,
} from "../../lib/engine/program.ts";
import { makeBatch } from "../testing/batches.ts";
import { smallKv, testNative } from "../testing/models.ts";
import {
  Random,
  rowBytes,
  WeightFile,
  type WeightType,
} from "../testing/weights.ts";

interface Roof {
  threads: number;
  readGBps: number;
  int8Gops: number;
}

interface Row {
  isa: Isa;
  type: WeightType;
  rows: number;
  us: number;
  GBps: number;
  readShare: number;
  Gops: number;
  int8Share: number;
}

const width = 2048;
/** Few rows need weights beyond the cache; many rows take long enough with two. */
const workloads = [{ rows: [1, 4], matmuls: 32 }, {
  rows: [16, 64, 256],
  matmuls: 2,
}];
const threads = Number(
  argument("--threads") ?? Math.min(2, availableParallelism()),
);

function argument(name: string): string | undefined {
  const at = process.argv.indexOf(name);
  return at < 0 ? undefined : process.argv[at + 1];
}

function measureRoof(): Roof {
  const here = dirname(fileURLToPath(import.meta.url));
  const folder = join(here, "../../build/bench");
  mkdirSync(folder, { recursive: true });
  const program = join(folder, "roof");
  execFileSync("g++", [
    ...["-std=c++20", "-O3", "-mavx2", "-pthread"],
    ...[join(here, "roof.cpp"), "-o", program],
  ]);
  return JSON.parse(
    execFileSync(program, [`${threads}`], { encoding: "utf8" }),
  );
}

/** Matmuls one after another, each feeding the next, with weights that stay small. */
function chain(file: WeightFile, type: WeightType, matmuls: number) {
  const random = new Random(1);
  const bytes = new Uint8Array(width * rowBytes(type, width));
  for (let i = 0; i < bytes.length; i++) bytes[i] = random.below(256);
  // Scales and floats must be tame: f16 0x1000 is 2^-11, bf16 and f32 alike small.
  const block = { F32: 4, F16: 2, BF16: 2, Q8_0: 34, Q4_0: 18 }[type];
  const high =
    { F32: 0x38, F16: 0x10, BF16: 0x38, Q8_0: 0x10, Q4_0: 0x10 }[type];
  const at = { F32: 3, F16: 1, BF16: 1, Q8_0: 1, Q4_0: 1 }[type];
  for (let i = 0; i < bytes.length; i += block) {
    bytes[i + at] = high | (bytes[i + at] & 0x81);
  }
  const weight = {
    type,
    rows: width,
    cols: width,
    bytes,
    values: new Float64Array(),
  };
  const builder = new ProgramBuilder();
  const table = file.addFloats(1, width, random.floats(width));
  let x: TensorId = builder.tensor(RowKind.rows, width);
  builder.embed(x, table);
  for (let i = 0; i < matmuls; i++) {
    const y = builder.tensor(RowKind.rows, width);
    builder.matmul(y, x, file.add(weight));
    x = y;
  }
  return builder.build();
}

async function bestUs(model: NativeModel, rows: number): Promise<number> {
  const batch = makeBatch([{ tokenIds: new Int32Array(rows), outRows: [] }]);
  let best = Infinity;
  const until = performance.now() + 1500;
  for (let i = 0; i < 3 || performance.now() < until; i++) {
    best = Math.min(best, (await model.step(batch)).stepUs);
  }
  return best;
}

type Measured = Omit<Row, "readShare" | "int8Share">;

async function measure(isa: Isa, type: WeightType): Promise<Measured[]> {
  const measured: Measured[] = [];
  for (const { rows, matmuls } of workloads) {
    using file = new WeightFile();
    const program = chain(file, type, matmuls);
    file.write();
    const model = await native.loadModel({
      ...{ path: file.path, isa, threads, weights: file.specs, program },
      ...{ kv: { ...smallKv, blocks: 32 }, rowsMax: 512, outRowsMax: 1 },
    });
    for (const count of rows) {
      const us = await bestUs(model, count);
      const values = matmuls * width * width;
      measured.push({
        ...{ isa, type, rows: count, us },
        GBps: values * rowBytes(type, width) / width / us / 1e3,
        Gops: 2 * values * count / us / 1e3,
      });
    }
    await model.close();
  }
  return measured;
}

const native = await testNative();
const before = measureRoof();
const measured = [];
for (const isa of native.isasSupported.filter((isa) => isa !== "ref")) {
  for (const type of ["Q8_0", "Q4_0", "F16"] as const) {
    measured.push(...await measure(isa, type));
  }
}
const after = measureRoof();
const roof = {
  threads,
  readGBps: Math.max(before.readGBps, after.readGBps),
  int8Gops: Math.max(before.int8Gops, after.int8Gops),
};
const rows: Row[] = measured.map((row) => ({
  ...row,
  readShare: row.GBps / roof.readGBps,
  int8Share: row.Gops / roof.int8Gops,
}));

if (process.argv.includes("--json")) {
  console.log(JSON.stringify({ roof, rows }));
} else {
  const percent = (share: number) => `${Math.round(share * 100)} %`.padStart(6);
  console.log(
    `${threads} threads: read ${roof.readGBps} GB/s, int8 (AVX2) ${roof.int8Gops} Gop/s`,
  );
  for (
    const { isa, type, rows: count, us, GBps, readShare, Gops, int8Share }
      of rows
  ) {
    console.log(
      `${isa} ${type.padEnd(4)} rows ${String(count).padStart(3)} ${
        us.toFixed(0).padStart(8)
      } us ` +
        `${GBps.toFixed(1).padStart(6)} GB/s ${percent(readShare)} of read ` +
        `${Gops.toFixed(0).padStart(5)} Gop/s ${percent(int8Share)} of int8`,
    );
  }
}

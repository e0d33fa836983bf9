/**
 * How near the matmuls come to the machine's roof: `deno task bench:kernels`.
 *
 * One row is bound by reading weights, many rows by int8 products. Both roofs are
 * measured by `roof.cpp` before and after, and the better one counts, for other
 * processes can only make it lower. Times are the best of several steps of a program
 * of matmuls whose weights (about 134 MB as int8) exceed any cache.
 */
import { availableParallelism } from "node:os";
import process from "node:process";
import { parseArgs } from "node:util";
import type { Isa, NativeModel } from "../../lib/engine/native.ts";
import {
  ProgramBuilder,
  RowKind,
  type TensorId,
} from "../../lib/engine/program.ts";
import { makeBatch } from "../testing/batches.ts";
import { smallKv, testNative } from "../testing/models.ts";
import {
  allWeightTypes,
  isQuantized,
  Random,
  randomWeight,
  rowBytes,
  WeightFile,
  type WeightType,
} from "../testing/weights.ts";
import { higherRoof, measureRoof } from "./measure_roof.ts";

interface Row {
  isa: Isa;
  type: WeightType;
  rows: number;
  us: number;
  GBps: number;
  readShare: number;
  Gops: number;
  /** Of this instruction set; only of types with int8 products. */
  int8Share: number | undefined;
}

const help = `deno task bench:kernels [--threads N] [--types T,...] [...]

Times matmuls of one row and of many, format by format, and prints the shares of the
bytes and int8 operations that this machine can read and do, measured in the same run.

  --threads N    default: all cores, at most 2
  --types T,...  default: all (${allWeightTypes.join(",")})
  --isas I,...   default: all that the machine has
  --json         print one JSON object instead of lines`;
const { values } = parseArgs({
  options: {
    threads: { type: "string" },
    types: { type: "string" },
    isas: { type: "string" },
    json: { type: "boolean", default: false },
    help: { type: "boolean", default: false },
  },
});
if (values.help) {
  console.log(help);
  process.exit(0);
}

const width = 2048;
/** Few rows need weights beyond the cache; many rows take long enough with two. */
const workloads = [{ rows: [1, 4, 8, 16, 32], matmuls: 32 }, {
  rows: [256],
  matmuls: 2,
}];
const threads = Number(values.threads ?? Math.min(2, availableParallelism()));

/** Matmuls one after another, each feeding the next, with weights that stay small. */
function chain(file: WeightFile, type: WeightType, matmuls: number) {
  const random = new Random(1);
  // Small, so that a chain neither fades out nor overflows.
  const deviation = 1 / Math.sqrt(width);
  const weight = randomWeight(type, width, width, { seed: 1, deviation });
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
  const until = performance.now() + 700;
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

function list<T extends string>(
  name: "types" | "isas",
  all: readonly T[],
): T[] {
  const wanted = values[name]?.split(",");
  const unknown = wanted?.find((one) => !all.includes(one as T));
  if (unknown !== undefined) {
    throw new Error(
      `--${name}: needs some of ${all.join(",")}, found ${unknown}`,
    );
  }
  return all.filter((one) => wanted === undefined || wanted.includes(one));
}

const native = await testNative();
const before = measureRoof(threads);
const measured = [];
const isas = native.isasSupported.filter((isa) => isa !== "ref");
for (const isa of list("isas", isas)) {
  for (const type of list("types", allWeightTypes)) {
    measured.push(...await measure(isa, type));
  }
}
const roof = higherRoof(before, measureRoof(threads));
const rows: Row[] = measured.map((row) => ({
  ...row,
  readShare: row.GBps / roof.readBestGBps,
  int8Share: isQuantized(row.type)
    ? row.Gops / roof.int8Gops[row.isa]
    : undefined,
}));

if (values.json) {
  console.log(JSON.stringify({ roof, rows }));
} else {
  const percent = (share: number | undefined) =>
    share === undefined
      ? "       "
      : `${Math.round(share * 100)} %`.padStart(7);
  console.log(
    `${threads} threads: read ${roof.readBestGBps} GB/s, int8 ` +
      Object.entries(roof.int8Gops).map(([isa, gops]) => `${gops} (${isa})`)
        .join(", ") +
      " Gop/s",
  );
  for (const row of rows) {
    const { isa, type, rows: count, us, GBps, readShare, Gops, int8Share } =
      row;
    console.log(
      `${isa} ${type.padEnd(6)} rows ${String(count).padStart(3)} ${
        us.toFixed(0).padStart(8)
      } us ` +
        `${GBps.toFixed(1).padStart(6)} GB/s ${percent(readShare)} of read ` +
        `${Gops.toFixed(0).padStart(5)} Gop/s ${percent(int8Share)} of int8`,
    );
  }
}

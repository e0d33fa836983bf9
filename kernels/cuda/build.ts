/**
 * Builds what belongs to the CUDA kernels.
 *
 * `buildFatbin` has nvcc compile them for GPUs: build/quetzal.fatbin, beside the addon.
 * `buildEmulation` has g++ compile the same sources for the host: a libcuda.so.1 of our
 * own that runs them by emulation, and `check`, which compares kernels with their twins
 * on either.
 */
import { spawn } from "node:child_process";
import {
  accessSync,
  constants,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { basename, delimiter, dirname, join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import {
  compilerIdentity,
  compilesAtOnce,
  hash,
  isUpToDate,
  keyFile,
  run,
  takeLock,
} from "../build.ts";

export interface EmulationBuild {
  /** The emulated libcuda.so.1. */
  readonly library: string;
  /** The program that checks kernels. */
  readonly check: string;
}

export type FatbinBuild =
  | { readonly kind: "built"; readonly path: string; readonly ms: number }
  | { readonly kind: "absent"; readonly why: string };

const cuda = dirname(fileURLToPath(import.meta.url));
const kernels = dirname(cuda);
const root = dirname(kernels);
const folder = join(root, "build/cuda");

const hostFlags = [
  "-std=c++20",
  "-fPIC",
  "-pthread",
  "-fvisibility=hidden",
  "-ffp-contract=off",
  "-Wall",
  "-Wextra",
  "-Wno-unknown-pragmas",
];

/** What the backend needs of the addon, without JavaScript. */
const backendSources = [
  "batch",
  "cuda_driver",
  "cuda_launch",
  "cuda_model",
  "cuda_plan",
  "cuda_repack",
  "cuda_weights",
  "memory",
  "op_check",
  "plan",
  "pool",
  "spec",
  "status",
  "weights",
];

/**
 * Ampere and its kin, Hopper, and PTX for what comes after. That PTX is Hopper's, since only
 * its kernels can overlap.
 */
const deviceFlags = [
  "-fatbin",
  "-std=c++17",
  "-O3",
  "-gencode=arch=compute_80,code=sm_80",
  "-gencode=arch=compute_90a,code=sm_90a",
  "-gencode=arch=compute_90,code=compute_90",
];

interface Unit {
  readonly source: string;
  readonly flags: readonly string[];
}

/** Fast when nothing changed; `onProgress` hears of each compiled file. */
export async function buildEmulation(
  onProgress?: (done: number, total: number, what: string) => void,
): Promise<EmulationBuild> {
  mkdirSync(folder, { recursive: true });
  const library = join(folder, "libcuda.so.1");
  const check = join(folder, "check");
  const release = await takeLock(join(folder, "lock"));
  try {
    const libraryUnits = [
      unit("cuda/emulation/fake_cuda.cpp", ["-O2", "-DQUETZAL_EMULATION"]),
      unit("cuda/emulation/emulation.cpp", ["-O2"]),
    ];
    const checkUnits = [
      ...unitsIn("cuda/check"),
      ...unitsIn("ref"),
      ...backendSources.map((name) => unit(`addon/${name}.cpp`)),
    ];
    const stale = [...libraryUnits, ...checkUnits].filter((each) =>
      !isUpToDate(objectOf(each), keyOf(each), folder)
    );
    const total = stale.length + 2;
    let done = 0;
    const waiting = [...stale];
    const work = async () => {
      for (let next = waiting.shift(); next; next = waiting.shift()) {
        await compile(next);
        onProgress?.(++done, total, basename(next.source));
      }
    };
    await Promise.all(Array.from({ length: compilesAtOnce }, work));
    await link(library, libraryUnits, ["-shared"]);
    await link(check, checkUnits, ["-ldl"]);
    return { library, check };
  } finally {
    release();
  }
}

/** Says why there is none where nvcc is missing; throws when it finds the code wrong. */
export async function buildFatbin(): Promise<FatbinBuild> {
  const nvcc = findNvcc();
  if (!nvcc) {
    return {
      kind: "absent",
      why:
        "needs nvcc (CUDA 12.4 or newer) on the PATH or in CUDA_HOME, found none",
    };
  }
  const begin = performance.now();
  mkdirSync(folder, { recursive: true });
  const path = join(root, "build/quetzal.fatbin");
  const { size, mtimeMs } = statSync(nvcc);
  const key = hash([nvcc, `${size} ${mtimeMs}`, ...deviceFlags, sources()]);
  const release = await takeLock(join(folder, "fatbin-lock"));
  try {
    if (!isUpToDate(path, key, folder)) {
      const fresh = `${path}.${process.pid}`;
      const source = join(cuda, "kernels.cu");
      await runNvcc(nvcc, [...deviceFlags, source, "-o", fresh]);
      renameSync(fresh, path);
      writeFileSync(keyFile(path, folder), key);
    }
    return { kind: "built", path, ms: performance.now() - begin };
  } finally {
    release();
  }
}

/** For `deno task kernels --cuda`. */
export async function reportFatbin(): Promise<void> {
  const result = await buildFatbin();
  console.log(
    result.kind === "built"
      ? `CUDA kernels: ${result.path} (${Math.round(result.ms)} ms)`
      : `No CUDA kernels: ${result.why}. The GPU path is absent; the CPU's is complete.`,
  );
}

/** Only the kernels take long to run; the rest should be built fast. */
function unit(path: string, flags: readonly string[] = ["-O1"]): Unit {
  return { source: join(kernels, path), flags };
}

function unitsIn(name: string): Unit[] {
  return readdirSync(join(kernels, name)).sort()
    .filter((file) => file.endsWith(".cpp"))
    .map((file) => unit(`${name}/${file}`));
}

function objectOf({ source }: Unit): string {
  const name = `${basename(dirname(source))}_${basename(source, ".cpp")}`;
  return join(folder, `${name}.o`);
}

function keyOf({ source, flags }: Unit): string {
  return hash([
    compilerIdentity(),
    ...hostFlags,
    ...flags,
    headers(),
    // Kernels are included by the emulated driver alone.
    basename(source) === "fake_cuda.cpp" ? sources() : "",
    readFileSync(source, "utf8"),
  ]);
}

function headers(): string {
  const folders = [
    "include",
    "ref",
    "addon",
    "cuda",
    "cuda/check",
    "cuda/emulation",
  ];
  return hash(folders.flatMap((name) => textsIn(name, /\.(h|inc)$/)));
}

/** All that nvcc reads. */
function sources(): string {
  return hash([
    ...textsIn("cuda", /\.(cu|h)$/),
    ...textsIn("include", /philox\.h$/),
  ]);
}

function textsIn(name: string, pattern: RegExp): string[] {
  return readdirSync(join(kernels, name)).sort()
    .filter((file) => pattern.test(file))
    .map((file) => readFileSync(join(kernels, name, file), "utf8"));
}

async function compile(each: Unit): Promise<void> {
  const object = objectOf(each);
  const fresh = `${object}.${process.pid}`;
  await run([...hostFlags, ...each.flags, "-c", each.source, "-o", fresh]);
  renameSync(fresh, object);
  writeFileSync(keyFile(object, folder), keyOf(each));
}

async function link(
  target: string,
  units: readonly Unit[],
  flags: readonly string[],
): Promise<void> {
  const key = hash([...flags, ...units.map(keyOf)]);
  if (isUpToDate(target, key, folder)) return;
  const fresh = `${target}.${process.pid}`;
  await run([...units.map(objectOf), ...flags, "-pthread", "-o", fresh]);
  renameSync(fresh, target);
  writeFileSync(keyFile(target, folder), key);
}

function findNvcc(): string | undefined {
  const folders = [
    ...(process.env.CUDA_HOME ? [join(process.env.CUDA_HOME, "bin")] : []),
    ...(process.env.PATH ?? "").split(delimiter),
    "/usr/local/cuda/bin",
  ];
  return folders.map((name) => join(name, "nvcc")).find((path) => {
    try {
      accessSync(path, constants.X_OK);
      return true;
    } catch {
      // Not in this folder.
      return false;
    }
  });
}

function runNvcc(nvcc: string, args: readonly string[]): Promise<void> {
  return new Promise((resolve, reject) => {
    const child = spawn(nvcc, args, { stdio: ["ignore", "ignore", "pipe"] });
    let errors = "";
    child.stderr.on("data", (text) => errors += text);
    child.on("error", reject);
    child.on("close", (code) => {
      if (code === 0) return resolve();
      reject(new Error(`Cannot compile: nvcc ${args.join(" ")}\n${errors}`));
    });
  });
}

/**
 * Builds the native addon: `deno run -A kernels/build.ts`.
 *
 * Every .cpp becomes an object with the flags of its instruction set; a hash of
 * source, headers, flags and compiler says which objects are still good. No
 * `-march=native` and no `-ffast-math`: what runs where is chosen at run time, and
 * results must not depend on who compiled. `-ffp-contract=off` leaves fused
 * multiply-adds to the intrinsics that ask for them.
 */
import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import {
  mkdirSync,
  readdirSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmdirSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { availableParallelism } from "node:os";
import { basename, delimiter, dirname, join } from "node:path";
import process from "node:process";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";

export interface BuildOptions {
  /** `done` of `total` pieces are ready, `what` was the last. */
  onProgress?: (done: number, total: number, what: string) => void;
  /** Builds everything, whatever is there. */
  force?: boolean;
  /**
   * A second addon (build/emulated) that runs the AVX-512 kernels by SIMD
   * Everywhere (Debian's libsimde-dev), to test them on machines without AVX-512.
   */
  emulateAvx512?: boolean;
}

export interface BuildResult {
  /** The addon. */
  path: string;
  /** Something had to be compiled or linked. */
  built: boolean;
  ms: number;
}

interface ObjectFile {
  source: string;
  object: string;
  flags: readonly string[];
  key: string;
}

const kernels = dirname(fileURLToPath(import.meta.url));
const root = dirname(kernels);
const compiler = "g++";

/** As many as there are cores: compilers wait for nothing else. */
export const compilesAtOnce = availableParallelism();

const commonFlags = [
  "-std=c++20",
  "-O3",
  "-fPIC",
  "-pthread",
  "-fvisibility=hidden",
  "-ffp-contract=off",
  "-fno-math-errno",
  "-Wall",
  "-Wextra",
  `-I${join(root, "node_modules/node-api-headers/include")}`,
];
const avx2Flags = ["-mavx2", "-mfma", "-mf16c"];
const avx512Flags = [
  ...["f", "bw", "vl", "dq", "vnni"].map((part) => `-mavx512${part}`),
  ...avx2Flags,
  // GCC 12 warns of its own intrinsics (_mm512_undefined_ps).
  "-Wno-uninitialized",
  "-Wno-maybe-uninitialized",
];
const amxFlags = [...avx512Flags, "-mamx-tile", "-mamx-int8"];
const linkFlags = [
  "-shared",
  "-pthread",
  "-static-libstdc++",
  "-static-libgcc",
  "-Wl,--exclude-libs,ALL",
];

/** Builds what is not up to date; fast when everything is. */
export async function buildKernels(
  options: BuildOptions = {},
): Promise<BuildResult> {
  const begin = performance.now();
  const folder = join(
    root,
    "build",
    options.emulateAvx512 ? "emulated" : "kernels",
  );
  const path = join(
    root,
    options.emulateAvx512
      ? "build/emulated/quetzal.node"
      : "build/quetzal.node",
  );
  mkdirSync(folder, { recursive: true });
  const objects = planObjects(folder, compilerIdentity(), options);
  const linkKey = hash([...linkFlags, ...objects.map((object) => object.key)]);
  const isCurrent = () => !options.force && isUpToDate(path, linkKey, folder);
  const result = (built: boolean) => ({
    path,
    built,
    ms: performance.now() - begin,
  });
  if (isCurrent()) return result(false);

  const release = await takeLock(join(folder, "lock"));
  try {
    if (isCurrent()) return result(false);
    await compileAll(objects, folder, options);
    await link(objects, path, folder, linkKey);
    options.onProgress?.(
      objects.length + 1,
      objects.length + 1,
      "quetzal.node",
    );
    return result(true);
  } finally {
    release();
  }
}

function planObjects(
  folder: string,
  identity: string,
  options: BuildOptions,
): ObjectFile[] {
  const folders = ["include", "cpu", "cuda", "ref", "addon", "bench"];
  const files = folders.flatMap((name) =>
    readdirSync(join(kernels, name)).sort().map((file) =>
      join(kernels, name, file)
    )
  );
  const headers = hash(
    files.filter((file) => /\.(h|inc)$/.test(file)).map((file) =>
      readFileSync(file, "utf8")
    ),
  );
  return files
    .filter((file) =>
      file.endsWith(".cpp") && basename(dirname(file)) !== "bench"
    )
    .map((source) => {
      const flags = flagsFor(source, options.emulateAvx512 ?? false);
      const name = `${basename(dirname(source))}_${basename(source, ".cpp")}.o`;
      const key = hash([
        identity,
        ...flags,
        headers,
        readFileSync(source, "utf8"),
      ]);
      return { source, object: join(folder, name), flags, key };
    });
}

function flagsFor(source: string, emulateAvx512: boolean): string[] {
  const emulation = emulateAvx512 ? ["-DQUETZAL_EMULATE", "-Wno-psabi"] : [];
  const name = basename(source);
  if (name.startsWith("avx2_")) {
    return [...commonFlags, ...emulation, ...avx2Flags];
  }
  // Their tiles clean up by destructors, which must not bring weak symbols along.
  if (name.startsWith("amx_")) emulation.push("-fno-exceptions");
  // Tests run it, nobody waits for it.
  if (name === "amx_emulated_kernels.cpp") emulation.push("-O1");
  // GCC 12 fails inside when it optimizes AVX-512 under SIMD Everywhere.
  if (emulateAvx512 && /^(avx512|amx_emulated)_/.test(name)) {
    emulation.push("-O0");
  }
  if (name === "amx_kernels.cpp") {
    return [...commonFlags, ...emulation, ...amxFlags];
  }
  if (name.startsWith("avx512_") || name.startsWith("amx_emulated")) {
    return [
      ...commonFlags,
      ...emulation,
      ...(emulateAvx512 ? avx2Flags : avx512Flags),
    ];
  }
  return [...commonFlags, ...emulation];
}

export function hash(parts: readonly string[]): string {
  const sha = createHash("sha256");
  for (const part of parts) sha.update(`${part.length}:`).update(part);
  return sha.digest("hex");
}

export function isUpToDate(
  target: string,
  key: string,
  folder: string,
): boolean {
  try {
    return statSync(target).isFile() &&
      readFileSync(keyFile(target, folder), "utf8") === key;
  } catch {
    // Not there yet.
    return false;
  }
}

export function keyFile(target: string, folder: string): string {
  return join(folder, `${basename(target)}.key`);
}

/** One build at a time: others wait for its result. A lock left behind is taken over. */
export async function takeLock(lock: string): Promise<() => void> {
  const staleMs = 300_000;
  for (;;) {
    try {
      mkdirSync(lock);
      return () => rmdirSync(lock);
    } catch (reason) {
      if ((reason as NodeJS.ErrnoException).code !== "EEXIST") throw reason;
    }
    try {
      if (Date.now() - statSync(lock).mtimeMs > staleMs) rmdirSync(lock);
    } catch {
      // Its owner was faster; try again.
    }
    await sleep(100);
  }
}

async function compileAll(
  objects: readonly ObjectFile[],
  folder: string,
  { onProgress, force }: BuildOptions,
): Promise<void> {
  const waiting = objects.filter(({ object, key }) =>
    force || !isUpToDate(object, key, folder)
  );
  const total = waiting.length + 1;
  let done = 0;
  // The slowest first, so that none is left over at the end.
  waiting.sort((a, b) => statSync(b.source).size - statSync(a.source).size);
  waiting.sort((a, b) =>
    Number(/avx|amx/.test(b.source)) - Number(/avx|amx/.test(a.source))
  );
  const worker = async () => {
    for (let next = waiting.shift(); next; next = waiting.shift()) {
      await compile(next, folder);
      onProgress?.(++done, total, basename(next.source));
    }
  };
  await Promise.all(Array.from({ length: compilesAtOnce }, worker));
}

async function compile(
  { source, object, flags, key }: ObjectFile,
  folder: string,
): Promise<void> {
  const fresh = `${object}.${process.pid}`;
  await run([...flags, "-c", source, "-o", fresh]);
  renameSync(fresh, object);
  writeFileSync(keyFile(object, folder), key);
}

async function link(
  objects: readonly ObjectFile[],
  path: string,
  folder: string,
  key: string,
): Promise<void> {
  const fresh = `${path}.${process.pid}`;
  await run([
    ...linkFlags,
    ...objects.map(({ object }) => object),
    "-o",
    fresh,
  ]);
  renameSync(fresh, path);
  writeFileSync(keyFile(path, folder), key);
}

/** Path, size and date of the compiler: as telling as its version, without running it. */
export function compilerIdentity(): string {
  for (const folder of (process.env.PATH ?? "").split(delimiter)) {
    try {
      const path = realpathSync(join(folder, compiler));
      const { size, mtimeMs } = statSync(path);
      return `${path} ${size} ${mtimeMs}`;
    } catch {
      // Not in this folder.
    }
  }
  throw missingCompiler();
}

export function run(args: readonly string[]): Promise<void> {
  return new Promise((resolve, reject) => {
    const child = spawn(compiler, args, {
      stdio: ["ignore", "ignore", "pipe"],
    });
    let errors = "";
    child.stderr.on("data", (text) => errors += text);
    child.on("error", (cause) => reject(missingCompiler(cause)));
    child.on("close", (code) => {
      if (code === 0) return resolve();
      reject(
        new Error(`Cannot compile: ${compiler} ${args.join(" ")}\n${errors}`),
      );
    });
  });
}

function missingCompiler(cause?: Error): Error {
  return new Error(
    `Cannot build the kernels: needs the C++ compiler ${compiler} (GCC 11 or newer), none was ` +
      "found. On Debian or Ubuntu: apt-get install g++. On Fedora: dnf install gcc-c++",
    { cause },
  );
}

if (process.argv[1] && fileURLToPath(import.meta.url) === process.argv[1]) {
  const { path, built, ms } = await buildKernels({
    force: process.argv.includes("--force"),
    emulateAvx512: process.argv.includes("--emulate-avx512"),
    onProgress: (done, total, what) =>
      console.log(`[${done}/${total}] ${what}`),
  });
  console.log(
    `${built ? "built" : "up to date"}: ${path} (${Math.round(ms)} ms)`,
  );
  if (process.argv.includes("--cuda")) {
    const { reportFatbin } = await import("./cuda/build.ts");
    await reportFatbin();
  }
}

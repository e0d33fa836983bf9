/** What the machine can do at most, measured by `roof.cpp`. */
import { execFileSync } from "node:child_process";
import { mkdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

export interface Roof {
  readonly threads: number;
  /** From huge pages, all threads together: the median, as rates of models are. */
  readonly readGBps: number;
  readonly readBestGBps: number;
  /** int8 products and sums, by instruction set. */
  readonly int8Gops: Readonly<Record<string, number>>;
}

let built: string | undefined;

export function measureRoof(threads: number): Roof {
  built ??= buildProgram();
  return JSON.parse(execFileSync(built, [`${threads}`], { encoding: "utf8" }));
}

function buildProgram(): string {
  const here = dirname(fileURLToPath(import.meta.url));
  const folder = join(here, "../../build/bench");
  mkdirSync(folder, { recursive: true });
  const program = join(folder, "roof");
  execFileSync("g++", [
    ...["-std=c++20", "-O3", "-mavx2", "-pthread"],
    ...[join(here, "roof.cpp"), "-o", program],
  ]);
  return program;
}

/** Other processes can only make a roof lower, so the higher of two counts. */
export function higherRoof(a: Roof, b: Roof): Roof {
  const int8Gops = { ...a.int8Gops };
  for (const [isa, value] of Object.entries(b.int8Gops)) {
    int8Gops[isa] = Math.max(int8Gops[isa] ?? 0, value);
  }
  return {
    threads: a.threads,
    readGBps: Math.max(a.readGBps, b.readGBps),
    readBestGBps: Math.max(a.readBestGBps, b.readBestGBps),
    int8Gops,
  };
}

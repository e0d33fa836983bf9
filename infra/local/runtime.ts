import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";

/**
 * For every Bun that runs a service: docs/benchmarks/mesh.md has what each brings.
 *
 * Its last compiler (FTL) goes on compiling event loops over and over without making them
 * faster. Its allocator hands memory back as soon as it is free, by a thread of its own,
 * and faults it in again for the next messages; ten seconds later is soon enough.
 */
export const bunEnv = {
  BUN_JSC_useFTLJIT: "0",
  MIMALLOC_PURGE_DELAY: "10000",
} as const;

export interface Runtime {
  readonly name: "bun" | "deno";
  readonly program: string;
  /** Before the file to run. */
  readonly args: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  /** Why it is not the one one would expect. */
  readonly note?: string;
}

export interface RuntimeFacts {
  readonly denoProgram: string;
  /** Bun's binary; absent when its package is not installed. */
  readonly bunProgram: string | undefined;
  /** Bun's usual build stops at its first AVX2 instruction elsewhere. */
  readonly hasAvx2: boolean;
}

/** Bun runs the request path (see docs/ARCHITECTURE.md); Deno where Bun cannot. */
export function chooseRuntime(
  wanted: "bun" | "deno" | undefined,
  { denoProgram, bunProgram, hasAvx2 }: RuntimeFacts,
): Runtime {
  const deno = {
    name: "deno",
    program: denoProgram,
    // Without --cached-only it asks the registry about packages that are there.
    args: ["run", "-A", "--cached-only"],
    env: {},
  } as const;
  if (wanted === "deno") return deno;
  if (bunProgram === undefined) {
    return {
      ...deno,
      note: "Bun's package is not installed: Deno runs the services",
    };
  }
  if (!hasAvx2) {
    return {
      ...deno,
      note: "This CPU has no AVX2, which Bun needs: Deno runs the services",
    };
  }
  return { name: "bun", program: bunProgram, args: [], env: bunEnv };
}

export function readRuntimeFacts(root: string): RuntimeFacts {
  const bun = join(root, "node_modules/@oven/bun-linux-x64/bin/bun");
  return {
    denoProgram: process.execPath,
    bunProgram: existsSync(bun) ? bun : undefined,
    hasAvx2: /^flags\s*:.*\bavx2\b/m.test(
      readFileSync("/proc/cpuinfo", "utf8"),
    ),
  };
}

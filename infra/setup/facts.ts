import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { findProgram } from "../process/mod.ts";
import { clusterPackagesMissing } from "./cluster_packages.ts";
import type { Facts } from "./plan.ts";
import { hashOf, readStamp } from "./stamp.ts";

/** Looks at this machine and this checkout; starts no program, takes about 10 ms. */
export function readFacts(root: string): Facts {
  return {
    platform: process.platform,
    arch: process.arch,
    isRoot: process.getuid?.() === 0,
    hasApt: findProgram("apt-get") !== undefined,
    npmMissing: npmMissing(root),
    hasCompiler: findProgram("g++") !== undefined,
    hasNatsServer: findProgram("nats-server") !== undefined,
    hasChromium: existsSync("/usr/bin/chromium"),
    hasSimde: existsSync("/usr/include/simde/x86/avx512.h"),
    hasNpm: findProgram("npm") !== undefined,
    parityCurrent: parityCurrent(root),
    clusterMissing: clusterPackagesMissing(process.env),
  };
}

/** Packages of package.json that node_modules lacks or has in another version. */
export function npmMissing(root: string): string[] {
  const { dependencies, devDependencies } = readJson(
    join(root, "package.json"),
  ) as Record<string, Record<string, string> | undefined>;
  return Object.entries({ ...dependencies, ...devDependencies })
    .filter(([name, version]) => installedVersion(root, name) !== version)
    .map(([name]) => name);
}

function installedVersion(root: string, name: string): string | undefined {
  const file = join(root, "node_modules", name, "package.json");
  if (!existsSync(file)) return undefined;
  return (readJson(file) as { version?: string }).version;
}

function readJson(file: string): unknown {
  return JSON.parse(readFileSync(file, "utf8"));
}

export const parityFolder = "test/parity";

/** The lock file that decides what test/parity holds. */
export function parityHash(root: string): string {
  return hashOf([join(root, parityFolder, "package-lock.json")]);
}

function parityCurrent(root: string): boolean {
  const folder = join(root, parityFolder);
  // Without the folder there are no parity tests to prepare.
  if (!existsSync(join(folder, "package-lock.json"))) return true;
  return existsSync(join(folder, "node_modules")) &&
    readStamp(root, "parity") === parityHash(root);
}

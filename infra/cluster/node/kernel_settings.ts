import { readFileSync, writeFileSync } from "node:fs";

/** What kubelet changes for the whole machine, whatever namespace it is in. */
const names = [
  "kernel/panic",
  "kernel/panic_on_oops",
  "vm/overcommit_memory",
] as const;

export type KernelSettings = Readonly<Record<string, string>>;

export function readKernelSettings(): KernelSettings {
  return Object.fromEntries(
    names.map((name) => [name, readFileSync(fileOf(name), "utf8").trim()]),
  );
}

export function restoreKernelSettings(settings: KernelSettings): void {
  for (const name of names) {
    const value = settings[name];
    if (value !== undefined) writeFileSync(fileOf(name), value);
  }
}

function fileOf(name: string): string {
  return `/proc/sys/${name}`;
}

import { closeSync, openSync, readSync, statSync } from "node:fs";
import { basename, resolve } from "node:path";

export interface ModelFile {
  /** As requests name it. */
  readonly name: string;
  /** Absolute. */
  readonly path: string;
}

/**
 * `FILE.gguf` or `NAME=FILE.gguf`. The name is that of the file, without the
 * suffix of its quantization: `models/quetzal-demo-q8_0.gguf` is `quetzal-demo`.
 */
export function parseModel(text: string, folder: string): ModelFile {
  const split = /^([\w.-]+)=(.+)$/.exec(text);
  const path = resolve(folder, split?.[2] ?? text);
  return { name: split?.[1] ?? nameOf(path), path };
}

const quantization = /[-._](i?q\d\w*|b?f16|f32|mxfp4)$/i;

export function nameOf(path: string): string {
  const stem = basename(path).replace(/\.gguf$/i, "");
  return stem.replace(quantization, "").toLowerCase().replace(/[^\w.-]+/g, "-");
}

/** Why the files cannot be served; empty when they can, as far as a look tells. */
export function modelFaults(models: readonly ModelFile[]): string[] {
  const faults = models.flatMap(({ path }) => fileFault(path) ?? []);
  const seen = new Map<string, string>();
  for (const { name, path } of models) {
    const other = seen.get(name);
    if (other) {
      faults.push(
        `--model ${path} and ${other} are both named "${name}"; ` +
          `name one yourself: --model NAME=${path}`,
      );
    }
    seen.set(name, path);
  }
  return faults;
}

/** Every GGUF file begins with these. */
const magic = "GGUF";

function fileFault(path: string): string | undefined {
  if (path.includes(",")) {
    return `--model ${path}: expected a path without commas`;
  }
  if (!statSync(path, { throwIfNoEntry: false })?.isFile()) {
    return `--model ${path}: expected a GGUF file, found no file there`;
  }
  const found = firstBytes(path, magic.length);
  if (found === magic) return undefined;
  return `--model ${path}: expected a GGUF file, which begins with "${magic}", ` +
    `found ${JSON.stringify(found)}`;
}

function firstBytes(path: string, count: number): string {
  const file = openSync(path, "r");
  try {
    const bytes = Buffer.alloc(count);
    return bytes.toString("latin1", 0, readSync(file, bytes));
  } finally {
    closeSync(file);
  }
}

/** Small files under `.cache/setup` that remember what a finished step was done for. */
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

export function hashOf(files: readonly string[]): string {
  const hash = createHash("sha256");
  for (const file of files) hash.update(readFileSync(file));
  return hash.digest("hex");
}

export function readStamp(root: string, name: string): string | undefined {
  const file = join(folderOf(root), name);
  return existsSync(file) ? readFileSync(file, "utf8") : undefined;
}

export function writeStamp(root: string, name: string, hash: string): void {
  mkdirSync(folderOf(root), { recursive: true });
  writeFileSync(join(folderOf(root), name), hash);
}

function folderOf(root: string): string {
  return join(root, ".cache/setup");
}

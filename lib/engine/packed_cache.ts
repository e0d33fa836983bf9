/**
 * Packed weights of models, kept on disk: the second load maps what the first has packed.
 *
 * Native code maps, checks and writes a file (`kernels/addon/packed_file.h`); here is
 * which file it is, and how many stay. A file is named for its model file's content, place
 * and time, for the user and the layout, so that no two ever want the same name. All of
 * it may fail in any way: then weights are packed anew at each load, as without.
 */
import { statSync } from "node:fs";
import { lstat, mkdir, readdir, unlink } from "node:fs/promises";
import { join } from "node:path";
import process from "node:process";
import type { ModelFile } from "./model_file.ts";
import type { NativeModel, PackedSpec, Target } from "./native.ts";

export interface PackedCache {
  /** Made for this user alone where it is not there. */
  readonly folder: string;
  /** Of all files together; those not used for the longest time go first. */
  readonly bytesMax: number;
}

export const packedCacheBytesDefault = 2 ** 36;

/** The file for these weights; `undefined` on a GPU, which packs in its own memory. */
export function packedSpec(
  { folder }: PackedCache,
  { gguf: { path }, fingerprint }: ModelFile,
  target: Target,
): PackedSpec | undefined {
  if (target === "cuda") return undefined;
  const stat = statSync(path, { bigint: true, throwIfNoEntry: false });
  // The load says what is missing.
  if (stat === undefined) return undefined;
  const name = [
    fingerprint,
    stat.ino.toString(36),
    stat.mtimeNs.toString(36),
    `u${process.geteuid?.() ?? 0}`,
    target === "ref" ? "rows" : "panels",
  ].join("-");
  return { path: join(folder, name + suffix), source: fingerprint };
}

/** Writes the file where there is none yet, beside the steps. Never rejects. */
export async function keepPacked(
  model: NativeModel,
  { cache, path, onWarning }: {
    readonly cache: PackedCache;
    readonly path: string;
    readonly onWarning: (message: string, cause?: unknown) => void;
  },
): Promise<void> {
  if (model.packedProblem) {
    onWarning(
      `Packed weights in "${path}" are not used and will be replaced`,
      model.packedProblem,
    );
  }
  if (model.isMapped || model.storePacked === undefined) return;
  try {
    await mkdir(cache.folder, { recursive: true, mode: 0o700 });
    await makeRoom(cache, model.weightBytes + headBytesMax);
    if (!await model.storePacked()) return;
    // Others may have written meanwhile.
    await makeRoom(cache, 0);
  } catch (cause) {
    onWarning(`Cannot keep packed weights in "${path}", going on`, cause);
  }
}

/** Removes files until there is room for `bytes` more; throws when there cannot be. */
export async function makeRoom(
  { folder, bytesMax }: PackedCache,
  bytes: number,
): Promise<void> {
  const files = await listFiles(folder);
  let total = files.reduce((sum, { size }) => sum + size, bytes);
  for (const { path, size } of files.filter(isRemovable)) {
    if (total <= bytesMax) return;
    if (await remove(path)) total -= size;
  }
  if (total <= bytesMax) return;
  throw new Error(
    `needs ${bytes} bytes within the ${bytesMax} of QUETZAL_PACKED_CACHE_MAX, ` +
      `${total - bytes} are taken by files that cannot be removed`,
  );
}

const suffix = ".packed";
const unfinishedSuffix = `${suffix}.unfinished`;
/** Head and fill up to the next huge page, for some ten thousand weights. */
const headBytesMax = 4 * 2 ** 20;
/** A file that nobody has written to for so long was left behind. */
const staleMs = 600_000;

interface CachedFile {
  readonly path: string;
  readonly size: number;
  /** Set at each load that uses it. */
  readonly usedMs: number;
}

/** Those not used for the longest time first. */
async function listFiles(folder: string): Promise<CachedFile[]> {
  const files: CachedFile[] = [];
  for (const name of await readdir(folder)) {
    if (!name.endsWith(suffix) && !name.endsWith(unfinishedSuffix)) continue;
    const path = join(folder, name);
    try {
      const { size, mtimeMs } = await lstat(path);
      files.push({ path, size, usedMs: mtimeMs });
    } catch {
      // Removed or renamed by another process between the two looks.
    }
  }
  return files.sort((a, b) => a.usedMs - b.usedMs);
}

function isRemovable({ path, usedMs }: CachedFile): boolean {
  return !path.endsWith(unfinishedSuffix) || Date.now() - usedMs > staleMs;
}

/** A process that has it mapped keeps it, and its disk space, until it lets go. */
async function remove(path: string): Promise<boolean> {
  try {
    await unlink(path);
    return true;
  } catch (cause) {
    return (cause as NodeJS.ErrnoException).code === "ENOENT";
  }
}

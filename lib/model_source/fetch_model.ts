import { mkdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { Code, MeshError } from "../errors/mesh_error.ts";
import { takeCacheLock } from "./cache_lock.ts";
import { download, type DownloadOptions } from "./download.ts";
import { isUrlSource, type ModelSource, type UrlSource } from "./types.ts";
import { isVerified, verify } from "./verify.ts";

export interface FetchModelOptions extends DownloadOptions {
  /** The cache; processes and pods of a machine may share it. */
  readonly folder: string;
  /** A lock whose holder has shown no life for this long is taken over; 15,000 unless set. */
  readonly staleMs?: number;
}

/**
 * The path of the source's file on this machine, once its content was checked.
 *
 * What comes from a URL lies in the cache under its checksum, so two URLs of one file
 * share it, and a changed file is another entry:
 *
 *   SHA.gguf        whole and checked: it appears by a rename
 *   SHA.ok          size and time at which that was so; without it SHA.gguf is checked again
 *   SHA.part        what has arrived, and SHA.from: from where, for a resume
 *   SHA.lock        who is at it; the others wait and then find the file
 *
 * Nothing is ever removed from the cache but what is broken.
 */
export async function fetchModel(
  source: ModelSource,
  options: FetchModelOptions,
): Promise<string> {
  if (isUrlSource(source)) return await fetchUrl(source, options);
  const { path, sha256 } = source;
  if (sha256 !== undefined) await checkPath(path, sha256, options);
  return path;
}

async function fetchUrl(
  source: UrlSource,
  options: FetchModelOptions,
): Promise<string> {
  const entry = join(options.folder, source.sha256);
  const path = `${entry}.gguf`;
  const marker = `${entry}.ok`;
  if (await isVerified(path, marker, source.sha256)) return path;
  await makeFolder(options.folder);
  await using _lock = await takeCacheLock(`${entry}.lock`, {
    signal: options.signal,
    staleMs: options.staleMs,
    isDone: () => isVerified(path, marker, source.sha256),
  });
  // Whoever had the lock before us may have brought it.
  if (await isVerified(path, marker, source.sha256)) return path;
  if (!await holds(path, marker, source.sha256, options)) {
    await download(source, entry, options);
    await verify(path, marker, { ...options, sha256: source.sha256 });
  }
  return path;
}

/** A whole file without its marker, as after a crash between the two. */
async function holds(
  path: string,
  marker: string,
  sha256: string,
  options: FetchModelOptions,
): Promise<boolean> {
  if (await stat(path).catch(() => undefined) === undefined) return false;
  try {
    await verify(path, marker, { ...options, sha256 });
    return true;
  } catch (reason) {
    // Broken on disk: `verify()` has removed it, and it is fetched again.
    if (MeshError.from(reason).code === Code.dataLoss) return false;
    throw reason;
  }
}

/** A file of somebody else: never removed, and its marker lies in our folder. */
async function checkPath(
  path: string,
  sha256: string,
  options: FetchModelOptions,
): Promise<void> {
  const marker = join(options.folder, `${sha256}.path-ok`);
  if (await isVerified(path, marker, sha256)) return;
  await makeFolder(options.folder).catch(() => {
    // A folder that cannot be written means only that the file is read again next time.
  });
  await verify(path, marker, { ...options, sha256, isForeign: true });
}

async function makeFolder(folder: string): Promise<void> {
  try {
    await mkdir(folder, { recursive: true });
  } catch (cause) {
    throw new MeshError(
      Code.failedPrecondition,
      `Cannot keep downloaded models: needs a folder at "${folder}" (QUETZAL_MODEL_CACHE), ` +
        `found ${(cause as Error).message}`,
      { cause },
    );
  }
}

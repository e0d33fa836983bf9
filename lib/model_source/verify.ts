import { createHash } from "node:crypto";
import { open, readFile, rename, rm, stat, writeFile } from "node:fs/promises";
import { setImmediate as nextTurn } from "node:timers/promises";
import { Code, MeshError } from "../errors/mesh_error.ts";

/** What a file was when its content was checked. */
interface Marker {
  readonly sha256: string;
  readonly path: string;
  readonly bytes: number;
  readonly mtimeMs: number;
}

/** Whether the file is the one that was checked, by size and time: no byte of it is read. */
export async function isVerified(
  path: string,
  markerPath: string,
  sha256: string,
): Promise<boolean> {
  try {
    const marker: Marker = JSON.parse(await readFile(markerPath, "utf8"));
    const { size, mtimeMs } = await stat(path);
    return marker.sha256 === sha256 && marker.path === path &&
      marker.bytes === size && marker.mtimeMs === mtimeMs;
  } catch {
    // No marker, no file, or half a marker: all mean that it has to be checked.
    return false;
  }
}

/**
 * Reads the whole file and writes its marker. Throws `dataLoss` when the checksum is
 * another one; a file of our own is removed then, for nothing can be done with it.
 */
export async function verify(
  path: string,
  markerPath: string,
  { sha256, signal, isForeign = false }: {
    readonly sha256: string;
    readonly signal: AbortSignal;
    readonly isForeign?: boolean;
  },
): Promise<void> {
  const { size, mtimeMs } = await existing(path);
  const found = await sha256Of(path, signal);
  if (found !== sha256) {
    if (!isForeign) await rm(path, { force: true });
    throw new MeshError(
      Code.dataLoss,
      `Cannot use ${path}: needs content with sha256 ${sha256}, found ${found} in ${size} bytes`,
      { field: "source.sha256" },
    );
  }
  const marker: Marker = { sha256, path, bytes: size, mtimeMs };
  const written = writeWhole(markerPath, JSON.stringify(marker));
  // Where the folder cannot be written, a foreign file is read again next time.
  await (isForeign ? written.catch(() => {}) : written);
}

async function existing(path: string) {
  try {
    return await stat(path);
  } catch (cause) {
    throw new MeshError(
      Code.notFound,
      `Cannot use the model's file: needs one at ${path}, found none`,
      { field: "source.path", cause },
    );
  }
}

const chunkBytes = 1 << 20;

/** 64 hex digits of the file's content; lets others run between the pieces. */
export async function sha256Of(
  path: string,
  signal: AbortSignal,
): Promise<string> {
  const hash = createHash("sha256");
  const buffer = new Uint8Array(chunkBytes);
  await using file = await open(path, "r");
  for (;;) {
    signal.throwIfAborted();
    const { bytesRead } = await file.read(buffer, 0, chunkBytes);
    if (bytesRead === 0) return hash.digest("hex");
    hash.update(buffer.subarray(0, bytesRead));
    await nextTurn();
  }
}

/** Nobody ever reads half of it. */
export async function writeWhole(path: string, text: string): Promise<void> {
  const draft = `${path}.${process.pid}`;
  await writeFile(draft, text);
  await rename(draft, path);
}

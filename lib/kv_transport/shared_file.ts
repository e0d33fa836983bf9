/**
 * A file that two workers of one host have open, for KV blocks.
 *
 * Plain reads and writes at offsets: each is one copy between memory and page cache
 * (10 us for a block of 64 KiB), there is no mapping that a truncated file could turn
 * into a crash, and nothing native is needed.
 *
 * Nothing in it is trusted. The writer only opens names of our form in our folder, no
 * links, owned by its own user, that begin with the magic and the key it was told. The
 * reader copies first and checks its copy.
 */
import { randomBytes } from "node:crypto";
import {
  closeSync,
  constants,
  fstatSync,
  ftruncateSync,
  lstatSync,
  openSync,
  readdirSync,
  readSync,
  unlinkSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";

/** 16 bytes. */
const magic = Buffer.from("quetzal-kv 1\n\0\0\0");
export const keyBytes = 16;
/** Blocks begin at a page. */
export const headerBytes = 4_096;

const namePattern = /^quetzal-kv-[0-9a-f]{32}$/;

/** A name lives for the moment between two workers' opening it. */
const strayMs = 60_000;

export interface SharedFile {
  readonly name: string;
  readonly key: Buffer;
  readonly fd: number;
  readonly bytes: number;
}

/** Makes one, sparse: only what is written takes memory. Throws when the folder will not have it. */
export function createSharedFile(folder: string, bytes: number): SharedFile {
  const name = `quetzal-kv-${randomBytes(16).toString("hex")}`;
  const key = randomBytes(keyBytes);
  const flags = constants.O_RDWR | constants.O_CREAT | constants.O_EXCL;
  const fd = openSync(join(folder, name), flags, 0o600);
  try {
    ftruncateSync(fd, bytes);
    writeSync(fd, Buffer.concat([magic, key]), 0, magic.length + keyBytes, 0);
    return { name, key, fd, bytes };
  } catch (error) {
    closeSync(fd);
    removeSharedFile(folder, name);
    throw error;
  }
}

/** `undefined` for everything that is not a file of the form above with that key. */
export function openSharedFile(
  folder: string,
  name: string,
  key: Uint8Array,
): SharedFile | undefined {
  if (!namePattern.test(name) || key.length !== keyBytes) return undefined;
  let fd: number | undefined;
  try {
    const flags = constants.O_RDWR | constants.O_NOFOLLOW |
      constants.O_NONBLOCK;
    fd = openSync(join(folder, name), flags);
    const stat = fstatSync(fd);
    const header = Buffer.alloc(magic.length + keyBytes);
    readSync(fd, header, 0, header.length, 0);
    const isOurs = stat.isFile() && stat.uid === process.getuid?.() &&
      header.equals(Buffer.concat([magic, key]));
    if (isOurs) return { name, key: Buffer.from(key), fd, bytes: stat.size };
  } catch {
    // Another host's, or gone: the blocks travel the usual way.
  }
  if (fd !== undefined) closeSync(fd);
  return undefined;
}

/** Those who have it open keep it; a name that is gone already is as good. */
export function removeSharedFile(folder: string, name: string): void {
  try {
    unlinkSync(join(folder, name));
  } catch {
    // Removed by someone who swept.
  }
}

/** Removes names that a worker left behind when it was killed. */
export function sweepSharedFiles(folder: string, nowMs = Date.now()): void {
  for (const name of namesIn(folder)) {
    if (!namePattern.test(name)) continue;
    try {
      const { mtimeMs, uid } = lstatSync(join(folder, name));
      if (uid !== process.getuid?.() || nowMs - mtimeMs < strayMs) continue;
      unlinkSync(join(folder, name));
    } catch {
      // Another worker sweeps too.
    }
  }
}

function namesIn(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    // No such folder: no shared memory, and nothing to sweep.
    return [];
  }
}

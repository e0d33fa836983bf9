/**
 * The GGUF reader: reads what a file declares and no tensor data.
 *
 * A model file comes from strangers, so each count, length, type and offset is
 * held against the bytes the file really has before anything is allocated for it.
 * Invariant: whatever the bytes, the outcome is a `GgufFile` whose tensors lie
 * inside the file without overlap, or a `MeshError` that names the field.
 */
import { closeSync, constants, fstatSync, openSync } from "node:fs";
import { Code, MeshError } from "../errors/mesh_error.ts";
import { FileCursor } from "./file_cursor.ts";
import { createMetadata } from "./metadata.ts";
import { readMetadata, type StoredValue } from "./read_metadata.ts";
import { placeTensors, readTensorInfo } from "./read_tensors.ts";
import type { GgufFile, GgufTensor } from "./types.ts";

const metadataKeysMax = 2 ** 16;
const tensorsMax = 2 ** 20;
const alignmentMax = 2 ** 20;
/** The least one entry takes: key length, one byte, type, one byte. */
const entryBytesMin = 8 + 1 + 4 + 1;
/** Name length, one byte, dims count, one dim, type, offset. */
const tensorBytesMin = 8 + 1 + 4 + 8 + 4 + 8;

/** Reads the header of a GGUF file, version 2 or 3. */
export function readGguf(path: string): GgufFile {
  const fd = openFile(path);
  try {
    const stat = fstatSync(fd);
    if (!stat.isFile()) {
      throw new MeshError(
        Code.invalidArgument,
        `Cannot read GGUF file "${path}": expected a regular file, found another kind`,
      );
    }
    return readHeader(new FileCursor(path, fd, stat.size));
  } finally {
    closeSync(fd);
  }
}

function openFile(path: string): number {
  try {
    // Non-blocking, as opening a named pipe would else wait for a writer.
    return openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  } catch (cause) {
    const missing = (cause as NodeJS.ErrnoException).code === "ENOENT";
    throw new MeshError(
      missing ? Code.notFound : Code.invalidArgument,
      `Cannot read GGUF file "${path}": expected a readable file, found ` +
        (missing ? "none" : (cause as Error).message),
      { cause },
    );
  }
}

function readHeader(cursor: FileCursor): GgufFile {
  const version = readVersion(cursor);
  const tensorCount = readCount(
    cursor,
    "tensor count",
    tensorBytesMin,
    tensorsMax,
  );
  const keyCount = readCount(
    cursor,
    "metadata key count",
    entryBytesMin,
    metadataKeysMax,
  );
  const values = readMetadata(cursor, keyCount);
  const metadata = createMetadata(cursor.path, values);
  refuseSplit(cursor, values);
  const alignment = readAlignment(cursor, values);
  const declared: GgufTensor[] = [];
  for (let index = 0; index < tensorCount; index++) {
    declared.push(readTensorInfo(cursor, index));
  }
  return {
    path: cursor.path,
    version,
    alignment,
    fileBytes: cursor.fileBytes,
    metadata,
    tensors: placeTensors(cursor, declared, alignment),
  };
}

function readVersion(cursor: FileCursor): number {
  const magic = cursor.u32("magic");
  if (magic !== 0x46554747) {
    const found = magic.toString(16).padStart(8, "0");
    throw cursor.error(
      "magic",
      'the bytes "GGUF"',
      `the little-endian word 0x${found}`,
    );
  }
  const version = cursor.u32("version");
  if (version === 2 || version === 3) return version;
  if (version !== 0 && (version & 0xffff) === 0) {
    throw cursor.error(
      "version",
      "2 or 3, little-endian",
      `a big-endian file (0x${version.toString(16)})`,
    );
  }
  throw cursor.error("version", "2 or 3", `${version}`);
}

function readCount(
  cursor: FileCursor,
  field: string,
  eachBytes: number,
  max: number,
): number {
  const room = Math.floor(Math.max(0, cursor.remaining - 8) / eachBytes);
  return cursor.count(
    field,
    Math.min(room, max),
    `what the file has room for, up to ${max}`,
  );
}

function refuseSplit(
  cursor: FileCursor,
  values: ReadonlyMap<string, StoredValue>,
): void {
  const count = values.get("split.count");
  if (count === undefined || Number(count) <= 1) return;
  throw cursor.error(
    'key "split.count"',
    "1 (join the parts with gguf-split --merge first)",
    `one part of ${count}`,
  );
}

function readAlignment(
  cursor: FileCursor,
  values: ReadonlyMap<string, StoredValue>,
): number {
  const alignment = values.get("general.alignment") ?? 32;
  const valid = typeof alignment === "number" && Number.isInteger(alignment) &&
    alignment >= 1 && alignment <= alignmentMax &&
    (alignment & (alignment - 1)) === 0;
  if (valid) return alignment;
  throw cursor.error(
    'key "general.alignment"',
    `a power of two up to ${alignmentMax}`,
    `${String(alignment).slice(0, 40)}`,
  );
}

/** From a GGUF file to what native code loads, and what workers agree on. */
import { createHash } from "node:crypto";
import { closeSync, openSync, readSync } from "node:fs";
import { Code, MeshError } from "../errors/mesh_error.ts";
import type { GgufFile } from "../gguf/mod.ts";
import { blockTokens } from "./block_hash.ts";
import { buildGraph, type ModelGraph } from "./models/mod.ts";
import type { KvType } from "./native.ts";

export interface ModelFile {
  readonly gguf: GgufFile;
  readonly graph: ModelGraph;
  /** Workers with the same fingerprint may use each other's KV. */
  readonly fingerprint: string;
  readonly kvType: KvType;
  readonly kvBlockBytes: number;
}

/** Throws a `MeshError` that says what the file lacks, for KV of this type too. */
export function openModel(gguf: GgufFile, kvType: KvType = "f16"): ModelFile {
  const graph = buildGraph(gguf);
  const { layers, kvHeads, headDim } = graph.kv;
  const { values, bytes } = kvFormats[kvType];
  if (headDim % values !== 0) {
    throw new MeshError(
      Code.failedPrecondition,
      `Cannot keep KV of "${gguf.path}" in ${kvType}: needs heads in multiples ` +
        `of ${values} dims, found ${headDim}`,
    );
  }
  return {
    gguf,
    graph,
    fingerprint: fingerprintOf(gguf, { graph, kvType }),
    kvType,
    kvBlockBytes: layers * 2 * kvHeads * blockTokens * headDim / values * bytes,
  };
}

/** Bytes of so many adjacent values. */
const kvFormats: Record<KvType, { values: number; bytes: number }> = {
  f16: { values: 1, bytes: 2 },
  q8_0: { values: 32, bytes: 34 },
};

/** Whether the file still is what was opened; a look at its size, header and samples. */
export function isUnchanged(file: ModelFile): boolean {
  return fingerprintOf(file.gguf, file) === file.fingerprint;
}

const sampleCount = 64;
const sampleBytes = 4096;
const pieceBytes = 1 << 17;

/**
 * 32 hex digits over the KV layout, the header (metadata and tensor list) and
 * `sampleCount` pieces spread over the weights: reading a whole model of many
 * GiB would cost longer than loading it.
 */
function fingerprintOf(
  { path, fileBytes, tensors }: GgufFile,
  { graph: { kv }, kvType }: Pick<ModelFile, "graph" | "kvType">,
): string {
  const hash = createHash("sha256");
  hash.update(
    JSON.stringify({
      version: 1,
      dtype: kvType,
      blockTokens,
      ...kv,
      fileBytes,
    }),
  );
  const headerBytes = Math.min(
    fileBytes,
    ...[...tensors.values()].map((t) => t.offset),
  );
  const fd = openSync(path, "r");
  try {
    // In pieces of one buffer: megabytes of fresh memory take longer than hashing does.
    const buffer = new Uint8Array(pieceBytes);
    for (let at = 0; at < headerBytes; at += pieceBytes) {
      const count = Math.min(pieceBytes, headerBytes - at);
      hash.update(readAt(fd, at, buffer.subarray(0, count)));
    }
    const span = fileBytes - headerBytes;
    for (let i = 0; i < sampleCount; i++) {
      const begin = headerBytes + Math.floor(i * span / sampleCount);
      const count = Math.min(sampleBytes, fileBytes - begin);
      hash.update(readAt(fd, begin, buffer.subarray(0, count)));
    }
  } finally {
    closeSync(fd);
  }
  return hash.digest("hex").slice(0, 32);
}

/** What of `target` could be filled. */
function readAt(fd: number, position: number, target: Uint8Array): Uint8Array {
  let count = 0;
  while (count < target.length) {
    const rest = target.length - count;
    const read = readSync(fd, target, count, rest, position + count);
    if (read === 0) break;
    count += read;
  }
  return target.subarray(0, count);
}

/** From a GGUF file to what native code loads, and what workers agree on. */
import { createHash } from "node:crypto";
import { closeSync, openSync, readSync } from "node:fs";
import type { GgufFile } from "../gguf/mod.ts";
import { blockTokens } from "./block_hash.ts";
import { buildGraph, type ModelGraph } from "./models/mod.ts";

export interface ModelFile {
  readonly gguf: GgufFile;
  readonly graph: ModelGraph;
  /** Workers with the same fingerprint may use each other's KV. */
  readonly fingerprint: string;
  readonly kvBlockBytes: number;
}

export function openModel(gguf: GgufFile): ModelFile {
  const graph = buildGraph(gguf);
  const { layers, kvHeads, headDim } = graph.kv;
  return {
    gguf,
    graph,
    fingerprint: fingerprintOf(gguf, graph),
    kvBlockBytes: layers * 2 * kvHeads * blockTokens * headDim * f16Bytes,
  };
}

/** Whether the file still is what was opened; a look at its size, header and samples. */
export function isUnchanged({ gguf, graph, fingerprint }: ModelFile): boolean {
  return fingerprintOf(gguf, graph) === fingerprint;
}

const f16Bytes = 2;
const sampleCount = 64;
const sampleBytes = 4096;

/**
 * 32 hex digits over the KV layout, the header (metadata and tensor list) and
 * `sampleCount` pieces spread over the weights: reading a whole model of many
 * GiB would cost longer than loading it.
 */
function fingerprintOf(
  { path, fileBytes, tensors }: GgufFile,
  { kv }: ModelGraph,
): string {
  const hash = createHash("sha256");
  hash.update(
    JSON.stringify({ version: 1, dtype: "f16", blockTokens, ...kv, fileBytes }),
  );
  const headerBytes = Math.min(
    fileBytes,
    ...[...tensors.values()].map((t) => t.offset),
  );
  const fd = openSync(path, "r");
  try {
    hash.update(readAt(fd, 0, headerBytes));
    const span = fileBytes - headerBytes;
    for (let i = 0; i < sampleCount; i++) {
      const begin = headerBytes + Math.floor(i * span / sampleCount);
      hash.update(readAt(fd, begin, Math.min(sampleBytes, fileBytes - begin)));
    }
  } finally {
    closeSync(fd);
  }
  return hash.digest("hex").slice(0, 32);
}

function readAt(fd: number, position: number, length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  let count = 0;
  while (count < length) {
    const read = readSync(fd, bytes, count, length - count, position + count);
    if (read === 0) break;
    count += read;
  }
  return bytes.subarray(0, count);
}

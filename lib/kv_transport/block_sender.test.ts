import { deepEqual, equal, rejects } from "node:assert/strict";
import { test } from "vitest";
import type { KvBlock } from "../../proto/gen/quetzal/v1/prefill.ts";
import { BlockSender, type BlockSenderOptions } from "./block_sender.ts";
import { crc32cTable } from "./crc32c.ts";

const layout = {
  fingerprint: "f",
  kvType: "f16",
  blockTokens: 16,
  layers: 1,
  blockBytes: 32,
} as const;
const source = {
  blockBytes: (index: number) => new Uint8Array(32).fill(index),
};

/** A network that takes a block only when told to. */
class SlowSink {
  readonly blocks: KvBlock[] = [];
  pending = 0;
  #take: (() => void) | undefined;

  write(block: KvBlock): Promise<void> {
    this.blocks.push(block);
    this.pending++;
    return new Promise((resolve) => this.#take = resolve);
  }

  takeAll(): void {
    this.pending = 0;
    this.#take?.();
  }

  get indexes(): number[] {
    return this.blocks.map(({ blockIndex }) => blockIndex);
  }
}

function senderTo(sink: SlowSink, options: Partial<BlockSenderOptions> = {}) {
  return new BlockSender({
    layout,
    tokenCount: 16 * 8 + 3,
    haveTokens: 32,
    sink,
    crc32c: crc32cTable,
    bufferBytesMax: 3 * 32,
    signal: new AbortController().signal,
    fault: undefined,
    die() {},
    ...options,
  });
}

test("offer() copies no more ahead than the buffer holds, and catches up later", () => {
  const sink = new SlowSink();
  const sender = senderTo(sink);
  sender.offer(source, 1);
  deepEqual(sink.indexes, []);
  sender.offer(source, 7);
  deepEqual(sink.indexes, [2, 3, 4]);
  sender.offer(source, 8);
  deepEqual(sink.indexes, [2, 3, 4]);
  sink.takeAll();
  sender.offer(source, 8);
  deepEqual(sink.indexes, [2, 3, 4, 5, 6, 7]);
});

test("finish() sends the rest at the reader's pace, the last block with its count", async () => {
  const sink = new SlowSink();
  const sender = senderTo(sink);
  sender.offer(source, 8);
  sink.takeAll();
  const finished = sender.finish(source);
  for (const end of [6, 7, 8]) {
    await new Promise((resolve) => setImmediate(resolve));
    equal(sink.indexes.at(-1), end - 1);
    sink.takeAll();
  }
  await new Promise((resolve) => setImmediate(resolve));
  sink.takeAll();
  await finished;
  deepEqual(sink.indexes, [2, 3, 4, 5, 6, 7, 8]);
  equal(sink.blocks.at(-1)?.tokenCount, 3);
  equal(sender.blocks, 7);
  equal(sender.bytes, 7 * 32);
});

test("finish() stops when its reader is gone", async () => {
  const sink = new SlowSink();
  const controller = new AbortController();
  const finished = senderTo(sink, { signal: controller.signal }).finish(source);
  controller.abort(new Error("gone"));
  sink.takeAll();
  await rejects(finished, /gone/);
  deepEqual(sink.indexes, [2]);
});

import { deepEqual, equal, ok } from "node:assert/strict";
import { test } from "vitest";
import { KvBlock } from "../../proto/gen/quetzal/v1/prefill.ts";
import { BlockReceiver } from "./block_receiver.ts";
import { crc32cTable } from "./crc32c.ts";
import { encodeBlock, verifyBlock } from "./wire_block.ts";

const layout = {
  fingerprint: "f1",
  kvType: "f16",
  blockTokens: 16,
  layers: 3,
  blockBytes: 96,
} as const;

function blockAt(blockIndex: number, tokenCount = 16): KvBlock {
  const payload = Buffer.from(
    Uint8Array.from({ length: 96 }, (_, i) => i * 7 + blockIndex),
  );
  const block = encodeBlock(
    layout,
    { blockIndex, tokenCount, payload },
    crc32cTable,
  );
  // As it comes off the wire.
  return KvBlock.decode(KvBlock.encode(block).finish());
}

const expected = { layout, blockIndex: 2, tokenCount: 16 };

test("verifyBlock() accepts what encodeBlock() made", () => {
  equal(verifyBlock(blockAt(2), expected, crc32cTable), undefined);
  const last = { ...expected, tokenCount: 5 };
  equal(verifyBlock(blockAt(2, 5), last, crc32cTable), undefined);
});

const cases: { change: Partial<KvBlock>; reason: string }[] = [
  { change: { formatVersion: 2 }, reason: "format_version" },
  { change: { modelFingerprint: "f2" }, reason: "fingerprint" },
  { change: { dtype: 2 }, reason: "dtype" },
  { change: { blockIndex: 3 }, reason: "block_index" },
  { change: { layerBegin: 1 }, reason: "layers" },
  { change: { layerEnd: 2 }, reason: "layers" },
  { change: { tokenCount: 15 }, reason: "token_count" },
  { change: { byteLength: 95 }, reason: "byte_length" },
  { change: { payload: Buffer.alloc(95) }, reason: "byte_length" },
  { change: { payload: Buffer.alloc(96) }, reason: "checksum" },
  { change: { crc32c: 1 }, reason: "checksum" },
];

for (const { change, reason } of cases) {
  test(`verifyBlock() finds ${reason}: ${JSON.stringify(change).slice(0, 40)}`, () => {
    const block = { ...blockAt(2), ...change };
    const fault = verifyBlock(block, expected, crc32cTable);
    equal(fault?.reason, reason);
    ok(fault?.message.startsWith("Cannot use KV block 2: "));
  });
}

test("a block of q8_0 is one to those who hold q8_0, and to nobody else", () => {
  const q8 = { ...layout, kvType: "q8_0" } as const;
  const payload = new Uint8Array(96);
  const block = encodeBlock(
    q8,
    { blockIndex: 2, tokenCount: 16, payload },
    crc32cTable,
  );
  equal(
    verifyBlock(block, { ...expected, layout: q8 }, crc32cTable),
    undefined,
  );
  deepEqual(verifyBlock(block, expected, crc32cTable), {
    reason: "dtype",
    message: "Cannot use KV block 2: dtype must be 1, is 2",
  });
});

test("verifyBlock() finds every single turned bit of a payload", () => {
  const block = blockAt(2);
  for (let bit = 0; bit < 8 * 96; bit++) {
    block.payload[bit >> 3] ^= 1 << (bit & 7);
    equal(verifyBlock(block, expected, crc32cTable)?.reason, "checksum");
    block.payload[bit >> 3] ^= 1 << (bit & 7);
  }
});

test("BlockReceiver counts leading good blocks and writes no others", () => {
  const places = new Map<number, Uint8Array>();
  const receiver = new BlockReceiver({
    layout,
    tokenCount: 55,
    haveTokens: 16,
    crc32c: crc32cTable,
    blockBytes(index) {
      places.set(index, new Uint8Array(96));
      return places.get(index)!;
    },
  });
  equal(receiver.tokens, 16);
  equal(receiver.accept(blockAt(1)), undefined);
  equal(receiver.accept(blockAt(3, 7))?.reason, "block_index");
  equal(receiver.tokens, 32);
  equal(receiver.accept(blockAt(2)), undefined);
  equal(receiver.complete, false);
  equal(receiver.accept(blockAt(3, 7)), undefined);
  equal(receiver.complete, true);
  equal(receiver.tokens, 55);
  equal(receiver.accept(blockAt(4))?.reason, "block_index");
  deepEqual([...places.keys()], [1, 2, 3]);
  deepEqual(places.get(2), new Uint8Array(blockAt(2).payload));
});

import { deepEqual, equal } from "node:assert/strict";
import { test } from "vitest";
import {
  type KvBlock,
  KvDtype,
  PrefillEvent,
} from "../../proto/gen/quetzal/v1/prefill.ts";
import { blockEventBytes } from "./block_event_bytes.ts";

for (const length of [0, 1, 127, 128, 65_536, 3_000_000]) {
  test(`a block of ${length} bytes is what the generated code reads and writes`, () => {
    const block: KvBlock = {
      formatVersion: 1,
      modelFingerprint: "f".repeat(32),
      dtype: KvDtype.KV_DTYPE_F16,
      blockIndex: 300,
      layerBegin: 0,
      layerEnd: 4,
      tokenCount: 16,
      byteLength: length,
      crc32c: 0xfedcba98,
      payload: Uint8Array.from({ length }, (_, i) => i * 7),
    };
    const event = PrefillEvent.decode(blockEventBytes(block)).event;
    equal(event?.$case, "block");
    deepEqual({ ...event!.value, payload: [] }, { ...block, payload: [] });
    equal(Buffer.compare((event!.value as KvBlock).payload, block.payload), 0);
  });
}

test("the block may change after the call", () => {
  const payload = new Uint8Array([1, 2, 3]);
  const bytes = blockEventBytes({ ...smallBlock(), payload });
  payload[0] = 9;
  const { event } = PrefillEvent.decode(bytes);
  deepEqual([...(event!.value as KvBlock).payload], [1, 2, 3]);
});

function smallBlock(): KvBlock {
  return {
    formatVersion: 1,
    modelFingerprint: "",
    dtype: KvDtype.KV_DTYPE_F16,
    blockIndex: 0,
    layerBegin: 0,
    layerEnd: 1,
    tokenCount: 1,
    byteLength: 3,
    crc32c: 0,
    payload: new Uint8Array(3),
  };
}

import { KvBlock } from "../../proto/gen/quetzal/v1/prefill.ts";

/**
 * A `PrefillEvent` that holds a block, in protobuf's wire form.
 *
 * The generated code copies the payload once per level of nesting and once more at
 * the end, with fresh memory each time: a third of a prefill worker's time beside
 * its engine. Here it is copied once, at the call, so the block may change after it.
 */
export function blockEventBytes(block: KvBlock): Buffer {
  const { payload } = block;
  const header = KvBlock.encode({ ...block, payload: nothing }).finish();
  const payloadHead = [payloadTag, ...varint(payload.length)];
  const blockBytes = header.length + payloadHead.length + payload.length;
  const blockHead = [blockTag, ...varint(blockBytes)];
  const bytes = Buffer.allocUnsafeSlow(blockHead.length + blockBytes);
  let at = 0;
  for (const part of [blockHead, header, payloadHead, payload]) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}

const nothing = new Uint8Array(0);

/** Field number << 3 | 2 (length-delimited): PrefillEvent.block is 1, KvBlock.payload 10. */
const blockTag = 1 << 3 | 2;
const payloadTag = 10 << 3 | 2;

function varint(value: number): number[] {
  const bytes = [];
  for (; value >= 0x80; value >>>= 7) bytes.push(value & 0x7f | 0x80);
  bytes.push(value);
  return bytes;
}

/**
 * CRC-32C (Castagnoli, reflected polynomial 0x82F63B78) by table.
 *
 * Workers inject the native one, which is far faster; this one serves tests and
 * tools that load no addon, and is the reference the native one is compared with.
 */
export function crc32cTable(bytes: Uint8Array): number {
  let crc = 0xffffffff;
  for (let i = 0; i < bytes.length; i++) {
    crc = table[(crc ^ bytes[i]) & 0xff] ^ (crc >>> 8);
  }
  return (crc ^ 0xffffffff) >>> 0;
}

const table = Uint32Array.from({ length: 256 }, (_, byte) => {
  let crc = byte;
  for (let bit = 0; bit < 8; bit++) {
    crc = crc & 1 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1;
  }
  return crc >>> 0;
});

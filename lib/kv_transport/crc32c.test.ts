import { equal } from "node:assert/strict";
import { test } from "vitest";
import { crc32cTable } from "./crc32c.ts";

// Values of RFC 3720, appendix B.4, and the check value of the CRC catalogue.
const ascending = Uint8Array.from({ length: 32 }, (_, i) => i);
const cases = [
  { label: "nothing", bytes: new Uint8Array(0), want: 0 },
  {
    label: "123456789",
    bytes: new TextEncoder().encode("123456789"),
    want: 0xe3069283,
  },
  { label: "32 zeros", bytes: new Uint8Array(32), want: 0x8a9136aa },
  { label: "32 ones", bytes: new Uint8Array(32).fill(0xff), want: 0x62a8ab43 },
  { label: "0 to 31", bytes: ascending, want: 0x46dd794e },
  { label: "31 to 0", bytes: ascending.toReversed(), want: 0x113fdb5c },
];

for (const { label, bytes, want } of cases) {
  test(`crc32cTable() of ${label}`, () => equal(crc32cTable(bytes), want));
}

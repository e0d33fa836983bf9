/**
 * The byte alphabet of GPT-2: 256 printable characters that stand for bytes, so
 * that a vocabulary of byte strings can be written as text.
 *
 * Printable Latin-1 stands for itself; the other 68 bytes take U+0100 and up, in order.
 */
const codeOfByte: readonly number[] = Array.from(
  { length: 256 },
  (_, byte) => byte,
);
const hidden = codeOfByte.filter((byte) =>
  byte < 0x21 || (byte > 0x7e && byte < 0xa1) || byte === 0xad
);

/** The character that stands for each byte. */
export const charOfByte: readonly string[] = codeOfByte.map((byte) => {
  const index = hidden.indexOf(byte);
  return String.fromCharCode(index < 0 ? byte : 256 + index);
});

const byteOfCode = new Map(
  charOfByte.map((char, byte) => [char.charCodeAt(0), byte]),
);
const encoder = new TextEncoder();

/** The alphabet's spelling of bytes. */
export function spellBytes(bytes: Uint8Array): string {
  let text = "";
  for (const byte of bytes) text += charOfByte[byte];
  return text;
}

/** The bytes a spelling stands for; characters outside the alphabet are their own UTF-8. */
export function unspellBytes(text: string): Uint8Array {
  const bytes: number[] = [];
  for (const char of text) {
    const byte = char.length === 1
      ? byteOfCode.get(char.charCodeAt(0))
      : undefined;
    if (byte !== undefined) bytes.push(byte);
    else bytes.push(...encoder.encode(char));
  }
  return Uint8Array.from(bytes);
}

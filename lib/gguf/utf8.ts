const fatal = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
const units: number[] = [];

/**
 * The text of `bytes[start, end)`, or `undefined` when it is no valid UTF-8.
 *
 * A vocabulary is some 400,000 strings of a few bytes. A call of `TextDecoder`
 * costs more than such a string, so short ones with plain ASCII skip it.
 */
export function decodeUtf8(
  bytes: Uint8Array,
  start: number,
  end: number,
): string | undefined {
  if (end - start <= 24) {
    units.length = 0;
    let at = start;
    while (at < end) {
      const lead = bytes[at]!;
      if (lead < 0x80) {
        units.push(lead);
        at += 1;
      } else if (
        lead >= 0xc2 && lead < 0xe0 && at + 1 < end &&
        (bytes[at + 1]! & 0xc0) === 0x80
      ) {
        units.push((lead & 0x1f) << 6 | (bytes[at + 1]! & 0x3f));
        at += 2;
      } else {
        break;
      }
    }
    if (at === end) return String.fromCharCode(...units);
  }
  try {
    return fatal.decode(bytes.subarray(start, end));
  } catch {
    return undefined; // the only failure of a fatal decoder is bad UTF-8
  }
}

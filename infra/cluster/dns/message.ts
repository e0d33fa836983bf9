/**
 * The part of DNS (RFC 1035) that names of Services need: one question, answered
 * with IPv4 addresses.
 */
export interface Question {
  readonly id: number;
  /** In lower case, without the last dot. */
  readonly name: string;
  /** 1 is A. */
  readonly type: number;
  /** "Recursion desired", which the answer repeats. */
  readonly recursion: boolean;
  /** The question as it came, which the answer repeats. */
  readonly bytes: Uint8Array;
}

export const typeA = 1;

const headerBytes = 12;
const labelBytesMax = 63;

/** `undefined` for what is not a plain question. */
export function readQuestion(message: Uint8Array): Question | undefined {
  if (message.length < headerBytes + 5) return undefined;
  const view = viewOf(message);
  const flags = view.getUint16(2);
  const isQuery = (flags & 0xf800) === 0;
  if (!isQuery || view.getUint16(4) !== 1) return undefined;
  const labels: string[] = [];
  let at = headerBytes;
  while (message[at] !== 0) {
    const length = message[at];
    // Two high bits would point elsewhere: pointless in a first name.
    if (length > labelBytesMax || at + 1 + length >= message.length) {
      return undefined;
    }
    labels.push(text.decode(message.subarray(at + 1, at + 1 + length)));
    at += 1 + length;
  }
  const end = at + 5;
  if (end > message.length) return undefined;
  return {
    id: view.getUint16(0),
    name: labels.join(".").toLowerCase(),
    type: view.getUint16(at + 1),
    recursion: (flags & 0x0100) !== 0,
    bytes: message.slice(headerBytes, end),
  };
}

const text = new TextDecoder();

/** Names change as pods come and go. */
const secondsToLive = 1;

/** `undefined`: no such name. An empty list: the name has no address of this type. */
export function writeAnswer(
  question: Question,
  addresses: readonly string[] | undefined,
): Uint8Array {
  const records = (addresses ?? []).map(addressRecord);
  const header = new Uint8Array(headerBytes);
  const view = viewOf(header);
  const noSuchName = addresses === undefined ? 3 : 0;
  // A response, authoritative, recursion available.
  const flags = 0x8480 | (question.recursion ? 0x0100 : 0) | noSuchName;
  view.setUint16(0, question.id);
  view.setUint16(2, flags);
  view.setUint16(4, 1);
  view.setUint16(6, records.length);
  return Buffer.concat([header, question.bytes, ...records]);
}

function addressRecord(address: string): Uint8Array {
  const record = new Uint8Array(16);
  const view = viewOf(record);
  // The name: "as at byte 12", which is the question's.
  view.setUint16(0, 0xc000 | headerBytes);
  view.setUint16(2, typeA);
  view.setUint16(4, 1);
  view.setUint32(6, secondsToLive);
  view.setUint16(10, 4);
  record.set(address.split(".").map(Number), 12);
  return record;
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

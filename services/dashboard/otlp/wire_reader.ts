import { Buffer } from "node:buffer";
import { OtlpError } from "./limits.ts";

/**
 * Reads protobuf's wire format in place.
 *
 * Made for one thing: walking a message field by field without an object per message, with
 * every length checked against the end of the message it lies in.
 */
export class WireReader {
  readonly #data: Buffer;
  at: number;
  /** End of the message that is being read. */
  end: number;

  constructor(data: Uint8Array) {
    this.#data = Buffer.from(data.buffer, data.byteOffset, data.byteLength);
    this.at = 0;
    this.end = data.byteLength;
  }

  /** Number and wire type of the next field, as `number * 8 + type`; 0 at the end. */
  tag(): number {
    if (this.at >= this.end) return 0;
    const tag = this.varint();
    if (tag < 8 || tag > 0xffff_ffff) throw malformed("a field number", tag);
    return tag;
  }

  /** Values beyond 2^53 lose their last digits; `integer()` keeps them. */
  varint(): number {
    let value = 0;
    let scale = 1;
    for (let i = 0; i < 10; i++) {
      if (this.at >= this.end) throw malformed("a number", "its end");
      const byte = this.#data[this.at++];
      value += (byte & 0x7f) * scale;
      if (byte < 0x80) return value;
      scale *= 128;
    }
    throw malformed("a number", "more than 10 bytes");
  }

  /** A signed 64-bit integer; a decimal string where a number would round. */
  integer(): number | string {
    const start = this.at;
    const value = this.varint();
    if (value <= Number.MAX_SAFE_INTEGER) return value;
    let bits = 0n;
    for (let i = this.at - 1; i >= start; i--) {
      bits = (bits << 7n) | BigInt(this.#data[i] & 0x7f);
    }
    const signed = BigInt.asIntN(64, bits);
    const number = Number(signed);
    return Number.isSafeInteger(number) ? number : `${signed}`;
  }

  /** Nanoseconds as milliseconds: exact to 0.3 µs, as a float of today's dates is. */
  nanosAsMs(): number {
    const at = this.#skipTo(8);
    return this.#data.readUInt32LE(at + 4) * 4294.967296 +
      this.#data.readUInt32LE(at) / 1e6;
  }

  double(): number {
    return this.#data.readDoubleLE(this.#skipTo(8));
  }

  /** At most `max` bytes of it; what is not UTF-8 becomes U+FFFD. */
  text(max: number): string {
    const length = this.varint();
    const at = this.#skipTo(length);
    return this.#data.toString("utf8", at, at + Math.min(length, max));
  }

  /** An id; "" when its length is another than `bytes`. */
  hex(bytes: number): string {
    const length = this.varint();
    const at = this.#skipTo(length);
    return length === bytes ? this.#data.toString("hex", at, at + bytes) : "";
  }

  base64(max: number): string {
    const length = this.varint();
    const at = this.#skipTo(length);
    return this.#data.toString("base64", at, at + Math.min(length, max));
  }

  /** Enters the message that follows; hand what it answers to `leave()`. */
  enter(): number {
    const length = this.varint();
    const outer = this.end;
    const end = this.at + length;
    if (end > outer) throw malformed("a message", "its end");
    this.end = end;
    return outer;
  }

  leave(outer: number): void {
    this.at = this.end;
    this.end = outer;
  }

  /** Passes over a field nobody knows. */
  skip(tag: number): void {
    switch (tag & 7) {
      case 0:
        this.varint();
        return;
      case 1:
        this.#skipTo(8);
        return;
      case 2:
        this.#skipTo(this.varint());
        return;
      case 5:
        this.#skipTo(4);
        return;
      default:
        throw malformed("a wire type of 0, 1, 2 or 5", tag & 7);
    }
  }

  /** Answers where it was. */
  #skipTo(length: number): number {
    const { at } = this;
    if (at + length > this.end) {
      throw malformed(`${length} bytes`, this.end - at);
    }
    this.at = at + length;
    return at;
  }
}

function malformed(needed: string, found: unknown): OtlpError {
  return new OtlpError(`Cannot read spans: needs ${needed}, found ${found}`);
}

import { readSync } from "node:fs";
import { Code, MeshError } from "../errors/mesh_error.ts";
import type { StringList } from "./string_list.ts";
import { decodeUtf8 } from "./utf8.ts";

const windowBytesMin = 1 << 20;

/**
 * A forward reader over a file that holds only a window of it in memory.
 *
 * Every read names its field, and asks whether the file still has that many bytes
 * before anything is allocated, so a hostile length costs nothing.
 */
export class FileCursor {
  readonly path: string;
  readonly fileBytes: number;
  readonly #fd: number;
  #window = new Uint8Array(windowBytesMin);
  #view = new DataView(this.#window.buffer);
  /** Where in the file the window begins, and how much of it is filled. */
  #start = 0;
  #filled = 0;
  /** Next byte to read, counted from the start of the window. */
  #at = 0;

  constructor(path: string, fd: number, fileBytes: number) {
    this.path = path;
    this.fileBytes = fileBytes;
    this.#fd = fd;
  }

  get position(): number {
    return this.#start + this.#at;
  }

  get remaining(): number {
    return this.fileBytes - this.position;
  }

  u8(field: string): number {
    return this.#window[this.#take(1, field)]!;
  }

  i8(field: string): number {
    return this.#view.getInt8(this.#take(1, field));
  }

  u16(field: string): number {
    return this.#view.getUint16(this.#take(2, field), true);
  }

  i16(field: string): number {
    return this.#view.getInt16(this.#take(2, field), true);
  }

  u32(field: string): number {
    return this.#view.getUint32(this.#take(4, field), true);
  }

  i32(field: string): number {
    return this.#view.getInt32(this.#take(4, field), true);
  }

  f32(field: string): number {
    return this.#view.getFloat32(this.#take(4, field), true);
  }

  u64(field: string): bigint {
    return this.#view.getBigUint64(this.#take(8, field), true);
  }

  i64(field: string): bigint {
    return this.#view.getBigInt64(this.#take(8, field), true);
  }

  f64(field: string): number {
    return this.#view.getFloat64(this.#take(8, field), true);
  }

  /** A u64 that must lie in `[0, max]`; `what` says what the bound means. */
  count(field: string, max: number, what: string): number {
    const at = this.#take(8, field);
    const high = this.#view.getUint32(at + 4, true);
    const value = high * 2 ** 32 + this.#view.getUint32(at, true);
    if (value <= max) return value;
    const exact = this.#view.getBigUint64(at, true);
    throw this.error(field, `at most ${max} (${what})`, `${exact}`);
  }

  /** A length and that many bytes of UTF-8. */
  string(field: string, bytesMax: number): string {
    const bytes = this.count(field, bytesMax, "length limit of a string");
    const start = this.#take(bytes, field);
    const text = decodeUtf8(this.#window, start, start + bytes);
    if (text === undefined) {
      throw this.error(field, "valid UTF-8", "bytes that are not");
    }
    return text;
  }

  /** The next strings, as many as the window holds and the list takes; one at least. */
  stringsInto(list: StringList, field: string, bytesMax: number): void {
    const bytes = this.count(field, bytesMax, "length limit of a string");
    this.need(bytes, field);
    // Length and text together in the window, which may hold more behind them.
    this.#at -= 8;
    const at = this.#at = this.#take(8 + bytes, field);
    const taken = list.take(this.#window.subarray(at, this.#filled), bytesMax);
    if (taken === undefined) {
      throw this.error(field, "valid UTF-8", "bytes that are not");
    }
    this.#at += taken;
  }

  /** Fills `target` with the next bytes of the file. */
  fill(target: Uint8Array, field: string): void {
    this.need(target.byteLength, field);
    const buffered = Math.min(target.byteLength, this.#filled - this.#at);
    target.set(this.#window.subarray(this.#at, this.#at + buffered));
    this.#at += buffered;
    if (buffered === target.byteLength) return;
    const from = this.position;
    this.#readFully(target, buffered, from, field);
    this.#start = from + target.byteLength - buffered;
    this.#at = 0;
    this.#filled = 0;
  }

  /** Refuses unless the file still holds `bytes` more. */
  need(bytes: number, field: string): void {
    if (bytes <= this.remaining) return;
    throw this.error(
      field,
      `${bytes} bytes`,
      `${this.remaining} bytes before the end of the file`,
    );
  }

  error(field: string, expected: string, found: string): MeshError {
    return new MeshError(
      Code.invalidArgument,
      `Cannot read GGUF file "${this.path}": ${field} at byte ${this.position}: ` +
        `expected ${expected}, found ${found}`,
    );
  }

  /** Steps over `bytes`, and returns where in the window they begin. */
  #take(bytes: number, field: string): number {
    if (this.#at + bytes > this.#filled) this.#advance(bytes, field);
    const at = this.#at;
    this.#at += bytes;
    return at;
  }

  /** Moves the window to the position, wide enough for `bytes`. */
  #advance(bytes: number, field: string): void {
    this.need(bytes, field);
    const kept = this.#window.subarray(this.#at, this.#filled);
    if (bytes > this.#window.byteLength) {
      const wider = new Uint8Array(bytes);
      wider.set(kept);
      this.#window = wider;
      this.#view = new DataView(wider.buffer);
    } else {
      this.#window.set(kept);
    }
    this.#start += this.#at;
    this.#filled = kept.byteLength;
    this.#at = 0;
    const wanted = Math.min(
      this.#window.byteLength,
      this.fileBytes - this.#start,
    );
    const target = this.#window.subarray(0, wanted);
    this.#readFully(target, this.#filled, this.#start + this.#filled, field);
    this.#filled = wanted;
  }

  #readFully(
    target: Uint8Array,
    at: number,
    position: number,
    field: string,
  ): void {
    while (at < target.byteLength) {
      const got = readSync(
        this.#fd,
        target,
        at,
        target.byteLength - at,
        position,
      );
      if (got === 0) {
        throw this.error(
          field,
          `${target.byteLength - at} more bytes`,
          "a file cut short while read",
        );
      }
      at += got;
      position += got;
    }
  }
}

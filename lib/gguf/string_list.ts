import { isUtf8 } from "node:buffer";
import { decodeUtf8 } from "./utf8.ts";

/**
 * The strings of an array, as bytes until they are asked for.
 *
 * A vocabulary and its merges are some 400,000 strings. Who only loads weights never
 * reads them, and making them takes longer than mapping the weights does. That their
 * bytes are valid is seen at once all the same: a zero stands before each, which ends any
 * character, so one look over many of them is enough.
 */
export class StringList {
  /** u32 [length], bytes of each */
  readonly #sizes: Uint32Array;
  #count = 0;
  /** Strings one after another, eight zeros before each; none is in two pieces. */
  #pieces: Uint8Array[] = [];
  #texts: readonly string[] | undefined;

  constructor(length: number) {
    this.#sizes = new Uint32Array(length);
  }

  get isFull(): boolean {
    return this.#count === this.#sizes.length;
  }

  /**
   * Takes the strings that lie whole in `source`, each behind its length as a u64 of at
   * most `bytesMax`; overwrites the lengths. Returns the bytes of what it took, or
   * `undefined` when they are no UTF-8.
   */
  take(source: Uint8Array, bytesMax: number): number | undefined {
    const view = new DataView(source.buffer, source.byteOffset, source.length);
    const sizes = this.#sizes;
    let [next, count] = [0, this.#count];
    while (count < sizes.length && next + 8 <= source.length) {
      const size = view.getUint32(next, true);
      if (view.getUint32(next + 4, true) !== 0 || size > bytesMax) break;
      if (next + 8 + size > source.length) break;
      view.setUint32(next, 0);
      sizes[count++] = size;
      next += 8 + size;
    }
    this.#count = count;
    const taken = source.subarray(0, next);
    if (!isUtf8(taken)) return undefined;
    this.#pieces.push(taken.slice());
    return next;
  }

  /** The strings, made at the first call. */
  texts(): readonly string[] {
    return this.#texts ??= this.#decode();
  }

  #decode(): string[] {
    const texts: string[] = [];
    for (const piece of this.#pieces) {
      for (let at = 0; at < piece.length;) {
        const end = at + 8 + this.#sizes[texts.length]!;
        texts.push(decodeUtf8(piece, at + 8, end)!);
        at = end;
      }
    }
    this.#pieces = [];
    return texts;
  }
}

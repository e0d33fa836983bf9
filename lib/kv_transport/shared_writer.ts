/** The writer's side of shared memory: files of decode workers, open while they are used. */
import { closeSync, writeSync } from "node:fs";
import type {
  KvSharedBlocks,
  SharedMemory,
} from "../../proto/gen/quetzal/v1/prefill.ts";
import { headerBytes, openSharedFile, type SharedFile } from "./shared_file.ts";
import type { KvLayout } from "./types.ts";
import { type Crc32c, encodeBlock } from "./wire_block.ts";

/** Decode workers that share memory with this process at once; the longest unused goes. */
const filesMax = 64;

/** Closed when no prompt used it for this long: its reader may be gone. */
const idleMs = 120_000;

export class SharedFiles implements Disposable {
  readonly #folder: string;
  readonly #files = new Map<
    string,
    { readonly file: SharedFile; usedAtMs: number; users: number }
  >();
  readonly #timer: ReturnType<typeof setInterval>;

  constructor(folder: string) {
    this.#folder = folder;
    this.#timer = setInterval(() => this.#closeIdle(), idleMs / 4);
    this.#timer.unref();
  }

  get count(): number {
    return this.#files.size;
  }

  /** What a request offers, if it is usable for exactly `bytes`; dispose it at the end. */
  use(
    offer: SharedMemory | undefined,
    bytes: number,
  ): SharedTarget | undefined {
    if (offer === undefined || bytes === 0) return undefined;
    const offset = Number(offer.offset);
    const key = Buffer.from(offer.key).toString("hex");
    const entry = this.#files.get(key) ?? this.#open(key, offer);
    if (entry === undefined) return undefined;
    const fits = Number.isSafeInteger(offset) && offset >= headerBytes &&
      Number(offer.byteLength) === bytes &&
      offset + bytes <= entry.file.bytes;
    if (!fits) return undefined;
    entry.users++;
    entry.usedAtMs = performance.now();
    let isOpen = true;
    return {
      write(payload, position) {
        let done = 0;
        while (done < payload.length) {
          done += writeSync(
            entry.file.fd,
            payload,
            done,
            payload.length - done,
            offset + position + done,
          );
        }
      },
      [Symbol.dispose]: () => {
        if (isOpen) entry.users--;
        isOpen = false;
      },
    };
  }

  #open(key: string, { file: name, key: bytes }: SharedMemory) {
    const file = openSharedFile(this.#folder, name, bytes);
    if (file === undefined) return undefined;
    if (this.#files.size >= filesMax) this.#closeLongestUnused();
    const entry = { file, usedAtMs: performance.now(), users: 0 };
    this.#files.set(key, entry);
    return entry;
  }

  #closeIdle(): void {
    const beforeMs = performance.now() - idleMs;
    for (const [key, { users, usedAtMs }] of this.#files) {
      if (users === 0 && usedAtMs < beforeMs) this.#close(key);
    }
  }

  #closeLongestUnused(): void {
    const unused = [...this.#files].filter(([, { users }]) => users === 0)
      .toSorted(([, a], [, b]) => a.usedAtMs - b.usedAtMs);
    if (unused.length > 0) this.#close(unused[0][0]);
  }

  #close(key: string): void {
    closeSync(this.#files.get(key)!.file.fd);
    this.#files.delete(key);
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
    for (const key of [...this.#files.keys()]) this.#close(key);
  }
}

/** Room for the blocks of one prompt. */
export interface SharedTarget extends Disposable {
  /** Copies to `position` within the room; throws when the file system has no more. */
  write(payload: Uint8Array, position: number): void;
}

/** Blocks in a row that were written and not announced yet. */
export class SharedRun {
  readonly #layout: KvLayout;
  readonly #target: SharedTarget;
  readonly #firstBlock: number;
  readonly #crc32c: Crc32c;
  #announcement: KvSharedBlocks | undefined;

  constructor({ layout, target, firstBlock, crc32c }: {
    readonly layout: KvLayout;
    readonly target: SharedTarget;
    /** Whose place is at the beginning of the room. */
    readonly firstBlock: number;
    readonly crc32c: Crc32c;
  }) {
    this.#layout = layout;
    this.#target = target;
    this.#firstBlock = firstBlock;
    this.#crc32c = crc32c;
  }

  /** false: there was no room after all, and the block has to travel otherwise. */
  add(blockIndex: number, tokenCount: number, payload: Uint8Array): boolean {
    const { blockBytes } = this.#layout;
    try {
      this.#target.write(payload, (blockIndex - this.#firstBlock) * blockBytes);
    } catch {
      // A full /dev/shm is no reason to fail a prompt.
      return false;
    }
    const block = encodeBlock(
      this.#layout,
      { blockIndex, tokenCount, payload },
      this.#crc32c,
    );
    const { crc32c, payload: _, ...header } = block;
    this.#announcement ??= { ...header, crc32c: [] };
    this.#announcement.tokenCount = tokenCount;
    this.#announcement.crc32c.push(crc32c);
    return true;
  }

  /** What is to be told to the reader now, if anything. */
  take(): KvSharedBlocks | undefined {
    const announcement = this.#announcement;
    this.#announcement = undefined;
    return announcement;
  }
}

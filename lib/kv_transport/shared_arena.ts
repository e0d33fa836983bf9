/** The reader's side of shared memory: one file per prefill worker, rooms in it per pull. */
import { closeSync, readSync } from "node:fs";
import type { SharedMemory } from "../../proto/gen/quetzal/v1/prefill.ts";
import {
  createSharedFile,
  headerBytes,
  removeSharedFile,
  type SharedFile,
  sweepSharedFiles,
} from "./shared_file.ts";

export interface SharedArenasOptions {
  /** Where both workers look for such files: /dev/shm, or a volume that pods share. */
  readonly folder: string;
  /** Of one file, which is sparse. */
  readonly bytes: number;
  /** A worker that could not open our file is not offered one for this long, ms; 60,000 unless set. */
  readonly retryMs?: number;
}

/** A room of a failed pull may still be written into for a moment. */
const quarantineMs = 2_000;

/** Shared memory with each prefill worker, by address. */
export class SharedArenas implements Disposable {
  readonly #options: SharedArenasOptions;
  readonly #arenas = new Map<string, Arena>();
  readonly #refusedUntilMs = new Map<string, number>();

  constructor(options: SharedArenasOptions) {
    this.#options = options;
    sweepSharedFiles(options.folder);
  }

  /** Room for one pull; `undefined` when there is none, or none can be shared with that worker. */
  take(address: string, bytes: number): SharedRoom | undefined {
    if (bytes === 0) return undefined;
    const arena = this.#arenas.get(address) ?? this.#open(address);
    return arena?.take(bytes);
  }

  /** Nobody pulls from there any more: gives the memory back. Another pull makes a new file. */
  forget(address: string): void {
    this.#arenas.get(address)?.close();
    this.#arenas.delete(address);
    this.#refusedUntilMs.delete(address);
  }

  #open(address: string): Arena | undefined {
    const untilMs = this.#refusedUntilMs.get(address) ?? -Infinity;
    if (performance.now() < untilMs) return undefined;
    const { folder, bytes } = this.#options;
    try {
      const file = createSharedFile(folder, bytes);
      const arena = new Arena(folder, file, () => this.#drop(address, arena));
      this.#arenas.set(address, arena);
      return arena;
    } catch {
      // No such folder or no room in it: the blocks travel the usual way.
      this.#refuse(address);
      return undefined;
    }
  }

  #drop(address: string, arena: Arena): void {
    if (this.#arenas.get(address) !== arena) return;
    this.#arenas.delete(address);
    // One that was open at the other side fell to a restart: the next pull offers a new one.
    if (!arena.isShared) this.#refuse(address);
  }

  #refuse(address: string): void {
    const { retryMs = 60_000 } = this.#options;
    this.#refusedUntilMs.set(address, performance.now() + retryMs);
  }

  [Symbol.dispose](): void {
    for (const arena of this.#arenas.values()) arena.close();
    this.#arenas.clear();
  }
}

/** Part of a shared file that belongs to one pull. */
export interface SharedRoom {
  /** For the request. */
  readonly offer: SharedMemory;
  /** Copies from `position` within the room; throws when the file is shorter than it was. */
  read(target: Uint8Array, position: number): void;
  /** Blocks came through it: the other side has it open. */
  used(): void;
  /**
   * The pull is over. `unused`: blocks came another way although a room was offered, so the
   * other side has not got the file. `failed`: it may still be writing.
   */
  release(how: "done" | "unused" | "failed"): void;
}

class Arena {
  /** Whether the other side has it open. */
  isShared = false;
  readonly #folder: string;
  readonly #file: SharedFile;
  readonly #onUnusable: () => void;
  /** Free parts, by offset, never adjacent. */
  #free: { offset: number; bytes: number }[];
  #rooms = 0;
  #isNamed = true;
  #isClosing = false;

  constructor(folder: string, file: SharedFile, onUnusable: () => void) {
    this.#folder = folder;
    this.#file = file;
    this.#onUnusable = onUnusable;
    this.#free = [{ offset: headerBytes, bytes: file.bytes - headerBytes }];
  }

  take(bytes: number): SharedRoom | undefined {
    const found = this.#free.find((part) => part.bytes >= bytes);
    if (found === undefined) return undefined;
    const { offset } = found;
    found.offset += bytes;
    found.bytes -= bytes;
    if (found.bytes === 0) this.#free.splice(this.#free.indexOf(found), 1);
    this.#rooms++;
    const { fd, key, name } = this.#file;
    return {
      offer: {
        file: this.#isNamed ? name : "",
        key,
        offset: BigInt(offset),
        byteLength: BigInt(bytes),
      },
      read(target, position) {
        if (!(position >= 0 && position + target.length <= bytes)) {
          throw new Error(`it names bytes outside its room of ${bytes}`);
        }
        const at = offset + position;
        const got = readSync(fd, target, 0, target.length, at);
        if (got !== target.length) {
          throw new Error(`the file ends at ${at + got}`);
        }
      },
      used: () => {
        this.isShared = true;
        this.#unname();
      },
      release: (how) => {
        if (how === "unused") this.#retire();
        if (how !== "failed") return this.#giveBack(offset, bytes);
        setTimeout(() => this.#giveBack(offset, bytes), quarantineMs).unref();
      },
    };
  }

  close(): void {
    this.#isClosing = true;
    this.#unname();
    if (this.#rooms === 0) closeSync(this.#file.fd);
  }

  #retire(): void {
    if (this.#isClosing) return;
    this.#onUnusable();
    this.#isClosing = true;
    this.#unname();
  }

  #unname(): void {
    if (this.#isNamed) removeSharedFile(this.#folder, this.#file.name);
    this.#isNamed = false;
  }

  #giveBack(offset: number, bytes: number): void {
    this.#rooms--;
    if (this.#isClosing) {
      if (this.#rooms === 0) closeSync(this.#file.fd);
      return;
    }
    const parts = [...this.#free, { offset, bytes }]
      .toSorted((a, b) => a.offset - b.offset);
    this.#free = [];
    for (const part of parts) {
      const before = this.#free.at(-1);
      if (before && before.offset + before.bytes === part.offset) {
        before.bytes += part.bytes;
      } else this.#free.push(part);
    }
  }
}

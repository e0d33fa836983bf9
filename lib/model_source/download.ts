/**
 * One file over HTTP into the cache, in as many requests as it takes.
 *
 * A connection that breaks or stands still is followed by a request for the rest, as
 * long as some bytes come between two failures. The server says by its validator (a
 * strong ETag, else Last-Modified) whether it still has the file that we began with;
 * if not, or if it does not know ranges, the file begins anew. The checksum over the
 * whole judges the result, so a server that lies about its ranges costs time only.
 */
import {
  type FileHandle,
  open,
  readFile,
  rename,
  rm,
  statfs,
} from "node:fs/promises";
import { setTimeout as delay } from "node:timers/promises";
import { Code, MeshError } from "../errors/mesh_error.ts";
import { sourceText, type UrlSource } from "./types.ts";
import { sha256Of, writeWhole } from "./verify.ts";

export interface DownloadOptions {
  readonly signal: AbortSignal;
  /** Told the share that has arrived, 0..1, as far as the size is known. */
  readonly onProgress: (share: number) => void;
  /** Largest file that is taken. */
  readonly bytesMax: number;
  /** A server that sends nothing for this long is given up; 30,000 unless set. */
  readonly stallMs?: number;
  /** Failures in a row without a byte between them; 5 unless set. */
  readonly attemptsMax?: number;
  /** Before the next attempt, doubling to 5 s; 250 unless set. */
  readonly retryMs?: number;
  /** Bytes free for the folder; asks the file system unless set. */
  readonly freeBytes?: (folder: string) => Promise<number>;
  /** Writes all of a piece; the file system unless set. */
  readonly write?: (
    file: FileHandle,
    piece: Uint8Array,
    position: number,
  ) => Promise<void>;
}

/** Where the bytes in `SHA.part` came from. */
interface Origin {
  readonly url: string;
  readonly validator: string | undefined;
  readonly bytesTotal: number | undefined;
}

/** Leaves `entry`.gguf, checked; throws a `MeshError` that says what went wrong. */
export async function download(
  source: UrlSource,
  entry: string,
  options: DownloadOptions,
  isSecond = false,
): Promise<void> {
  const transfer = new Transfer(source, entry, options);
  const resumed = await transfer.run();
  const found = await sha256Of(transfer.partPath, options.signal);
  if (found !== source.sha256) {
    await transfer.discard();
    // Pieces of two versions, of a server without validators: once more, whole.
    if (resumed && !isSecond) {
      return await download(source, entry, options, true);
    }
    throw new MeshError(
      Code.dataLoss,
      `Cannot use ${
        sourceText(source)
      }: needs content with sha256 ${source.sha256}, ` +
        `found ${found} in ${transfer.bytes} bytes`,
      { field: "source.sha256" },
    );
  }
  await rename(transfer.partPath, `${entry}.gguf`);
  await rm(transfer.originPath, { force: true });
}

class Transfer {
  readonly partPath: string;
  readonly originPath: string;
  /** Arrived so far. */
  bytes = 0;
  readonly #source: UrlSource;
  readonly #options: DownloadOptions;
  readonly #folder: string;
  #origin: Origin | undefined;
  #isComplete = false;

  constructor(source: UrlSource, entry: string, options: DownloadOptions) {
    this.partPath = `${entry}.part`;
    this.originPath = `${entry}.from`;
    this.#source = source;
    this.#options = options;
    this.#folder = entry.slice(0, entry.lastIndexOf("/") + 1) || ".";
  }

  /** Resolves when all bytes are there: true when they are of more than one answer. */
  async run(): Promise<boolean> {
    const { signal, attemptsMax = 5, retryMs = 250 } = this.#options;
    await using file = await this.#open();
    let resumed = false;
    for (let failures = 0; !this.#isComplete;) {
      const before = this.bytes;
      resumed ||= before > 0;
      try {
        const began = await this.#request(file);
        if (began === 0) resumed = false;
      } catch (reason) {
        signal.throwIfAborted();
        if (!(reason instanceof Interruption)) throw reason;
        failures = this.bytes > before ? 1 : failures + 1;
        if (failures >= attemptsMax) throw this.#givenUp(reason, failures);
        await delay(Math.min(retryMs * 2 ** (failures - 1), 5_000), undefined, {
          signal,
        });
      }
    }
    return resumed;
  }

  async discard(): Promise<void> {
    await rm(this.partPath, { force: true });
    await rm(this.originPath, { force: true });
  }

  /** What arrived earlier counts when it is known to be of this URL. */
  async #open(): Promise<FileHandle> {
    this.#origin = await readOrigin(this.originPath);
    if (this.#origin?.url !== this.#source.url) this.#origin = undefined;
    const file = await open(this.partPath, this.#origin ? "a" : "w");
    await file.close();
    const both = await open(this.partPath, "r+");
    this.bytes = (await both.stat()).size;
    return both;
  }

  /** One request; answers the position that its bytes begin at, if it has any. */
  async #request(file: FileHandle): Promise<number | undefined> {
    const { signal, stallMs = 30_000 } = this.#options;
    const stall = new AbortController();
    let timer = setTimeout(() => stall.abort(), stallMs);
    const alive = () => {
      clearTimeout(timer);
      timer = setTimeout(() => stall.abort(), stallMs);
    };
    try {
      const response = await fetch(this.#source.url, {
        headers: this.#headers(),
        signal: AbortSignal.any([signal, stall.signal]),
      });
      const begin = await this.#begin(response, file);
      if (this.#isComplete) return undefined;
      alive();
      for await (const piece of response.body ?? []) {
        await this.#take(file, piece);
        alive();
      }
      this.#end();
      return begin;
    } catch (reason) {
      if (stall.signal.aborted && !signal.aborted) {
        throw new Interruption(`nothing came for ${stallMs} ms`);
      }
      if (reason instanceof MeshError || reason instanceof Interruption) {
        throw reason;
      }
      throw fileFault(reason, this.partPath) ??
        new Interruption(causeText(reason), { cause: reason });
    } finally {
      clearTimeout(timer);
      // Ends the connection of an answer that was not read to its end.
      stall.abort();
    }
  }

  #headers(): Record<string, string> {
    // A compressed answer would have other lengths than the file.
    const headers = { "accept-encoding": "identity" };
    if (this.bytes === 0) return headers;
    const { validator } = this.#origin ?? {};
    return {
      ...headers,
      range: `bytes=${this.bytes}-`,
      ...(validator && { "if-range": validator }),
    };
  }

  /** Reads the answer's head; answers where its bytes go. */
  async #begin(response: Response, file: FileHandle): Promise<number> {
    const { status } = response;
    if (status === 206) {
      const range = rangeOf(response);
      const total = this.#origin?.bytesTotal;
      const fits = range?.begin === this.bytes &&
        (total === undefined || range.total === total);
      if (!fits) {
        await this.#restart(file);
        throw new Interruption(
          `its range is "${
            response.headers.get("content-range")
          }", asked for bytes=${this.bytes}-`,
        );
      }
      await this.#keepOrigin(response, range!.total);
      return this.bytes;
    }
    if (status === 416 && this.bytes > 0) {
      // All there already, or more than there is: the checksum tells which.
      if (rangeOf(response)?.total === this.bytes) {
        this.#isComplete = true;
        return this.bytes;
      }
      await this.#restart(file);
      throw new Interruption("it has no such range");
    }
    if (status !== 200) throw this.#refused(status);
    if (this.bytes > 0) await this.#restart(file);
    const length = response.headers.get("content-length");
    const bytesTotal = length === null ? undefined : Number(length);
    await this.#checkSize(bytesTotal);
    await this.#keepOrigin(response, bytesTotal);
    return 0;
  }

  async #restart(file: FileHandle): Promise<void> {
    await file.truncate(0);
    this.bytes = 0;
    this.#origin = undefined;
    await rm(this.originPath, { force: true });
  }

  async #keepOrigin(
    { headers }: Response,
    bytesTotal: number | undefined,
  ): Promise<void> {
    const etag = headers.get("etag");
    // A weak ETag says nothing about single bytes.
    const validator = etag !== null && !etag.startsWith("W/")
      ? etag
      : headers.get("last-modified") ?? undefined;
    this.#origin = { url: this.#source.url, validator, bytesTotal };
    await writeWhole(this.originPath, JSON.stringify(this.#origin));
  }

  async #checkSize(bytesTotal: number | undefined): Promise<void> {
    if (bytesTotal === undefined) return;
    if (bytesTotal > this.#options.bytesMax) throw this.#tooLarge(bytesTotal);
    const { freeBytes = freeBytesOf } = this.#options;
    const free = await freeBytes(this.#folder);
    if (bytesTotal > free) {
      throw diskFull(
        this.partPath,
        `needs ${bytesTotal} bytes, ${free} are free`,
      );
    }
  }

  async #take(file: FileHandle, piece: Uint8Array): Promise<void> {
    const { bytesMax, onProgress, write = writeAll } = this.#options;
    if (this.bytes + piece.length > bytesMax) {
      await this.discard();
      throw this.#tooLarge(this.bytes + piece.length);
    }
    try {
      await write(file, piece, this.bytes);
    } catch (reason) {
      const fault = fileFault(reason, this.partPath);
      // What fills the disk helps nobody.
      if (fault !== undefined) await this.discard();
      throw fault ?? reason;
    }
    this.bytes += piece.length;
    const total = this.#origin?.bytesTotal;
    if (total !== undefined) onProgress(Math.min(1, this.bytes / total));
  }

  /** The answer is over: is it all? */
  #end(): void {
    const total = this.#origin?.bytesTotal;
    if (total !== undefined && this.bytes < total) {
      throw new Interruption(`it ended after ${this.bytes} of ${total} bytes`);
    }
    this.#isComplete = true;
  }

  #refused(status: number): Error {
    if (status === 429 || status >= 500) {
      return new Interruption(`its status is ${status}`);
    }
    const code = status === 404 || status === 410
      ? Code.notFound
      : status === 401 || status === 403
      ? Code.permissionDenied
      : Code.failedPrecondition;
    return this.#error(code, `needs an answer of status 200, found ${status}`);
  }

  #tooLarge(bytes: number): MeshError {
    return this.#error(
      Code.failedPrecondition,
      `needs at most ${this.#options.bytesMax} bytes (QUETZAL_MODEL_BYTES_MAX), found ${bytes}`,
    );
  }

  #givenUp(reason: Interruption, failures: number): MeshError {
    return this.#error(
      Code.unavailable,
      `${failures} attempts in a row brought nothing; of the last: ${reason.message}`,
    );
  }

  #error(code: Code, what: string): MeshError {
    return new MeshError(
      code,
      `Cannot download ${sourceText(this.#source)}: ${what}`,
      { field: "source.url" },
    );
  }
}

/** The transfer may go on with another request. */
class Interruption extends Error {}

async function readOrigin(path: string): Promise<Origin | undefined> {
  try {
    return JSON.parse(await readFile(path, "utf8"));
  } catch {
    // None, or a broken one: the file begins anew.
    return undefined;
  }
}

/** `bytes 5-9/10` and `bytes *\/10`. */
function rangeOf(
  { headers }: Response,
): { begin: number | undefined; total: number | undefined } | undefined {
  const match = /^bytes (?:(\d+)-\d+|\*)\/(\d+|\*)$/.exec(
    headers.get("content-range") ?? "",
  );
  if (match === null) return undefined;
  const number = (text: string | undefined) =>
    text === undefined || text === "*" ? undefined : Number(text);
  return { begin: number(match[1]), total: number(match[2]) };
}

async function freeBytesOf(folder: string): Promise<number> {
  const { bavail, bsize } = await statfs(folder);
  return bavail * bsize;
}

async function writeAll(
  file: FileHandle,
  piece: Uint8Array,
  position: number,
): Promise<void> {
  for (let done = 0; done < piece.length;) {
    const { bytesWritten } = await file.write(
      piece,
      done,
      piece.length - done,
      position + done,
    );
    done += bytesWritten;
  }
}

function fileFault(reason: unknown, path: string): MeshError | undefined {
  const { code, message } = reason as NodeJS.ErrnoException;
  if (code === "ENOSPC" || code === "EDQUOT") return diskFull(path, message);
  if (code === "EROFS" || code === "EACCES" || code === "EIO") {
    return new MeshError(
      Code.failedPrecondition,
      `Cannot write ${path}: ${message}`,
      { cause: reason },
    );
  }
  return undefined;
}

function diskFull(path: string, what: string): MeshError {
  return new MeshError(
    Code.resourceExhausted,
    `Cannot keep the model at ${path}: the disk is full: ${what}`,
  );
}

/** "fetch failed" alone says nothing; its cause does. */
function causeText(reason: unknown): string {
  const { message, cause } = reason as Error;
  return cause instanceof Error && cause.message !== ""
    ? `${message}: ${cause.message}`
    : message;
}

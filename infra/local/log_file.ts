import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  renameSync,
  writeSync,
} from "node:fs";
import { dirname } from "node:path";

/** The log of one process, across its restarts. */
export interface LogFile extends Disposable {
  readonly path: string;
  /** The last lines, oldest first. */
  readonly tail: readonly string[];
  write(line: string): void;
}

const tailLines = 20;

/** A file that grew to this size moves to `<path>.1`; so a log takes twice that at most. */
const bytesMax = 32 << 20;

/** Starts a new file; the one that was there moves to `<path>.1`. */
export function openLogFile(path: string): LogFile {
  mkdirSync(dirname(path), { recursive: true });
  const tail: string[] = [];
  let file: number | undefined = rotated(path);
  let bytes = 0;
  return {
    path,
    tail,
    write(line) {
      if (file === undefined) return;
      tail.push(line);
      if (tail.length > tailLines) tail.shift();
      bytes += writeSync(file, `${line}\n`);
      if (bytes < bytesMax) return;
      closeSync(file);
      file = rotated(path);
      bytes = 0;
    },
    [Symbol.dispose]() {
      if (file !== undefined) closeSync(file);
      file = undefined;
    },
  };
}

function rotated(path: string): number {
  if (existsSync(path)) renameSync(path, `${path}.1`);
  return openSync(path, "a");
}

/** The trace formats the simulator reads, told apart by what the file holds. */
import { closeSync, existsSync, openSync, readSync, statSync } from "node:fs";
import { Code, MeshError } from "../../../lib/errors/mesh_error.ts";
import { readRecording } from "./recording.ts";
import { readAzure, readMooncake, readVtc } from "./request_files.ts";
import { readServegen } from "./servegen.ts";
import type { Trace, TraceOptions } from "./trace.ts";

export type { Trace, TraceOptions, TraceRequest } from "./trace.ts";

const formats = [
  { name: "Azure CSV", starts: "TIMESTAMP,ContextTokens", read: readAzure },
  { name: "Mooncake JSONL", starts: '{"timestamp"', read: readMooncake },
  { name: "VTC CSV", starts: "req_time_s,adapter", read: readVtc },
  { name: "recording", starts: '{"kind":', read: readRecording },
];

/** A folder is ServeGen's (one model per file); a file is known by its first characters. */
export function readTrace(path: string, options: TraceOptions): Trace {
  if (!existsSync(path)) {
    throw new MeshError(
      Code.notFound,
      `Cannot read trace "${path}": there is no such file or folder`,
    );
  }
  if (statSync(path).isDirectory()) return readServegen(path, options);
  const head = firstCharacters(path);
  const format = formats.find(({ starts }) => head.startsWith(starts));
  if (!format) {
    const names = formats.map(({ name }) => name).join(", ");
    throw new MeshError(
      Code.invalidArgument,
      `Cannot read trace "${path}": needs a ServeGen folder or one of ${names}, found "${
        head.slice(0, 24)
      }"`,
    );
  }
  return format.read(path, options.limitMs);
}

function firstCharacters(path: string): string {
  const file = openSync(path, "r");
  try {
    const bytes = new Uint8Array(64);
    const length = readSync(file, bytes, 0, bytes.length, 0);
    return new TextDecoder().decode(bytes.subarray(0, length));
  } finally {
    closeSync(file);
  }
}

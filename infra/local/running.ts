/** `up.json` in the data folder: what runs there now, for `task ask` and the next `up`. */
import {
  existsSync,
  mkdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { startOf } from "../process/mod.ts";

export interface RunningMesh {
  readonly pid: number;
  /** With the pid it names the process for good: pids are used again. */
  readonly startMs: number;
  readonly http: string;
  readonly grpc: string;
  /** The dashboard's address; absent without one. */
  readonly dashboard?: string;
  readonly models: readonly string[];
}

/** The mesh that runs with this data folder; `undefined` when none does. */
export function readRunning(dataFolder: string): RunningMesh | undefined {
  const file = fileOf(dataFolder);
  if (!existsSync(file)) return undefined;
  const mesh = parse(readFileSync(file, "utf8"));
  if (!mesh || startOf(mesh.pid) !== mesh.startMs) return undefined;
  return mesh;
}

/** Claims the data folder for this process, until disposed. */
export function writeRunning(
  dataFolder: string,
  mesh: Omit<RunningMesh, "pid" | "startMs">,
): Disposable {
  const { pid } = process;
  const running: RunningMesh = { pid, startMs: startOf(pid) ?? 0, ...mesh };
  mkdirSync(dataFolder, { recursive: true });
  writeFileSync(fileOf(dataFolder), `${JSON.stringify(running, null, 2)}\n`);
  return {
    [Symbol.dispose]: () => rmSync(fileOf(dataFolder), { force: true }),
  };
}

function fileOf(dataFolder: string): string {
  return join(dataFolder, "up.json");
}

function parse(text: string): RunningMesh | undefined {
  try {
    return JSON.parse(text);
  } catch {
    // Cut off in the middle of writing: whoever wrote it is gone.
    return undefined;
  }
}

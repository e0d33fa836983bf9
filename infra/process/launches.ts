/**
 * The processes that launched this one: `npx deno task up` is a chain of npm, a
 * shell, `deno task` and at last us.
 *
 * npx hands no signal on to its child: whoever stops it leaves the rest of the
 * chain running. A long-running command therefore watches the chain and ends
 * when a link is gone. The chain's start times also tell how long npx took to
 * fetch Deno, and Deno to fetch the npm packages.
 */
import { readFileSync } from "node:fs";

export interface Launch {
  readonly pid: number;
  readonly kind: "npx" | "shell" | "deno task";
  /** Since boot; with the pid it names a process for good. */
  readonly startMs: number;
  /** How long ago that was, when this was read. */
  readonly ageMs: number;
}

interface ProcessEntry {
  readonly parentPid: number;
  readonly startMs: number;
  readonly command: readonly string[];
}

/** Our launchers, nearest first; empty when something else started us. */
export function launchesOf(
  pid: number = process.ppid,
  read: (pid: number) => ProcessEntry | undefined = readProcess,
  nowMs: number = uptimeMs(),
): Launch[] {
  const launches: Launch[] = [];
  let entry = read(pid);
  while (entry) {
    const kind = kindOf(entry.command);
    if (!kind) break;
    const { startMs } = entry;
    launches.push({ pid, kind, startMs, ageMs: Math.max(0, nowMs - startMs) });
    if (kind === "npx") break;
    pid = entry.parentPid;
    entry = read(pid);
  }
  // A shell belongs to the chain only when npx started it; else it is the user's.
  if (launches.at(-1)?.kind === "shell") launches.pop();
  return launches;
}

/** The first link of the chain that has ended. */
export function vanished(
  launches: readonly Launch[],
  read: (pid: number) => ProcessEntry | undefined = readProcess,
): Launch | undefined {
  return launches.find(({ pid, startMs }) => read(pid)?.startMs !== startMs);
}

/** When a process started, in ms since boot; `undefined` when it has ended. */
export function startOf(pid: number): number | undefined {
  return readProcess(pid)?.startMs;
}

function kindOf(command: readonly string[]): Launch["kind"] | undefined {
  const words = command.join(" ").trim();
  if (
    /^(npm exec|npx)\b/.test(words) || /\bnpx(-cli\.js)?\b.*\bdeno/.test(words)
  ) {
    return "npx";
  }
  if (/^\S*\bsh -c .*\bdeno\b/.test(words)) return "shell";
  if (/^\S*deno\S* task\b/.test(words)) return "deno task";
  return undefined;
}

/** The kernel's clock tick in /proc is 10 ms on every Linux we run on. */
const tickMs = 10;

function readProcess(pid: number): ProcessEntry | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    // The name in brackets may hold blanks and brackets; fields follow the last one.
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    // A zombie has ended, though nobody has collected it yet.
    if (fields[0] === "Z") return undefined;
    return {
      parentPid: Number(fields[1]),
      startMs: Number(fields[19]) * tickMs,
      command: readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0"),
    };
  } catch {
    // The process is gone, or there is no /proc: either way nothing is known.
    return undefined;
  }
}

function uptimeMs(): number {
  try {
    return Number(readFileSync("/proc/uptime", "utf8").split(" ")[0]) * 1_000;
  } catch {
    // Without /proc there are no launches to date either.
    return 0;
  }
}

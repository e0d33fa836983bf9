/** Processes of a cluster: each writes to a log file and can be stopped by anyone who has its record. */
import { spawn } from "node:child_process";
import { closeSync, openSync, readFileSync } from "node:fs";
import { setTimeout as delay } from "node:timers/promises";
import { findProgram, startOf, systemPath } from "../process/mod.ts";

export interface DaemonSpec {
  readonly name: string;
  readonly program: string;
  readonly args: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd: string;
  readonly logFile: string;
}

/**
 * "bound": the kernel kills it when we end, however we end; for tests.
 * "detached": it outlives us; for `cluster up`.
 */
export type Lifetime = "bound" | "detached";

/** Names a process for good, also after its pid has been given to another one. */
export interface DaemonRecord {
  readonly name: string;
  readonly pid: number;
  /** Since boot. */
  readonly startMs: number;
  readonly logFile: string;
}

const setpriv = findProgram("setpriv");

export function startDaemon(
  { name, program, args, env, cwd, logFile }: DaemonSpec,
  lifetime: Lifetime,
): DaemonRecord {
  const log = openSync(logFile, "a");
  try {
    const bind = lifetime === "bound" && setpriv
      ? [setpriv, "--pdeathsig", "KILL", "--"]
      : [];
    const [first, ...rest] = [...bind, program, ...args];
    const child = spawn(first, rest, {
      cwd,
      detached: true,
      env: { ...process.env, PATH: systemPath(), ...env },
      stdio: ["ignore", log, log],
    });
    // Its end shows in /proc; without a listener a missing program would end us.
    child.on("error", () => {});
    if (lifetime === "detached" && child.pid !== undefined) child.unref();
    const pid = child.pid ?? 0;
    return { name, pid, startMs: startOf(pid) ?? 0, logFile };
  } finally {
    closeSync(log);
  }
}

export function isAlive({ pid, startMs }: DaemonRecord): boolean {
  return pid > 0 && startOf(pid) === startMs;
}

const killAfterMs = 10_000;

/** Asks it to end, then insists; resolves when it is gone. */
export async function stopDaemon(
  daemon: DaemonRecord,
  { signal = "SIGTERM" }: { signal?: "SIGTERM" | "SIGKILL" } = {},
): Promise<void> {
  const startedMs = performance.now();
  let sent: NodeJS.Signals | undefined;
  while (isAlive(daemon)) {
    const late = performance.now() - startedMs > killAfterMs;
    const next = late ? "SIGKILL" : signal;
    if (next !== sent) signalProcess(daemon.pid, next);
    sent = next;
    await delay(20);
  }
}

function signalProcess(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch (error) {
    // ESRCH: it ended between the look and the signal.
    if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error;
  }
}

/** The last lines of its log. */
export function logTail({ logFile }: DaemonRecord, lines = 15): string[] {
  try {
    return readFileSync(logFile, "utf8").trimEnd().split("\n").slice(-lines);
  } catch {
    // It ended before it wrote one.
    return [];
  }
}

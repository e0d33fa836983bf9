/** What the kernel says of a process. */
import { readdirSync, readFileSync } from "node:fs";

export function memoryMb(pid: number, key: "VmHWM" | "VmRSS"): number {
  const status = readFileSync(`/proc/${pid}/status`, "utf8");
  return Number(new RegExp(`${key}:\\s+(\\d+)`).exec(status)?.[1]) / 1_024;
}

/** Processor time of a process, by the scheduler's clock; threads that ended do not count. */
export function cpuSeconds(pid: number): number {
  let sum = 0;
  for (const seconds of threadSeconds(pid).values()) sum += seconds;
  return sum;
}

/** The same by name of thread: those of one name together, the main one as "main". */
export function threadSeconds(pid: number): Map<string, number> {
  const seconds = new Map<string, number>();
  for (const thread of readdirSync(`/proc/${pid}/task`)) {
    const folder = `/proc/${pid}/task/${thread}`;
    try {
      const [ns] = readFileSync(`${folder}/schedstat`, "utf8").split(" ");
      const comm = readFileSync(`${folder}/comm`, "utf8").trim();
      const name = thread === `${pid}` ? "main" : comm;
      seconds.set(name, (seconds.get(name) ?? 0) + Number(ns) / 1e9);
    } catch {
      // It ended meanwhile.
    }
  }
  return seconds;
}

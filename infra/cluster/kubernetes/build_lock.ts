import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { setTimeout as delay } from "node:timers/promises";
import { startOf } from "../../process/mod.ts";

const lookEveryMs = 500;

/**
 * Waits until no living process holds `file`, then holds it.
 *
 * The file names its holder by pid and start time, so that one left behind by a
 * killed process holds nobody up.
 */
export async function holdLock(
  file: string,
  { onWait = () => {} }: { onWait?: (pid: number) => void } = {},
): Promise<Disposable> {
  while (!take(file)) {
    const holder = holderOf(file);
    if (holder === undefined) rmSync(file, { force: true });
    else {
      onWait(holder);
      await delay(lookEveryMs);
    }
  }
  return { [Symbol.dispose]: () => rmSync(file, { force: true }) };
}

function take(file: string): boolean {
  try {
    const entry = `${process.pid} ${startOf(process.pid)}\n`;
    writeFileSync(file, entry, { flag: "wx" });
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "EEXIST") return false;
    throw error;
  }
}

/** The pid of the living holder. */
function holderOf(file: string): number | undefined {
  try {
    const [pid, startMs] = readFileSync(file, "utf8").trim().split(" ");
    return startOf(Number(pid)) === Number(startMs) ? Number(pid) : undefined;
  } catch {
    // Released between the two looks: free to take.
    return undefined;
  }
}

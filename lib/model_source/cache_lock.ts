/**
 * One writer per cache entry, among processes that may live in different pods.
 *
 * The lock is a file that its holder touches every second or two. Process ids mean
 * nothing across pods and clocks may differ between machines, so a waiter trusts only
 * what it sees: a lock whose time has not moved for `staleMs` by the waiter's own clock
 * belongs to nobody any more. Taking it over is a rename, which one waiter wins. The
 * holder looks whether the file is still its own each time it touches it.
 */
import { randomUUID } from "node:crypto";
import { open, readFile, rename, rm, stat, utimes } from "node:fs/promises";
import { setTimeout as delay } from "node:timers/promises";

export interface CacheLockOptions {
  readonly signal: AbortSignal;
  /** 15,000 unless set. */
  readonly staleMs?: number;
  /** Looked at while waiting: true when the lock is not needed any more. */
  readonly isDone: () => Promise<boolean>;
  /** Between two looks at a lock that another one holds, ms; 200 unless set. */
  readonly lookMs?: number;
}

/** Waits until the lock is ours, or what it guards is done; rejects with the signal's reason. */
export async function takeCacheLock(
  path: string,
  { signal, staleMs = 15_000, isDone, lookMs = 200 }: CacheLockOptions,
): Promise<AsyncDisposable> {
  const token = randomUUID();
  let seen: { mtimeMs: number; token: string; sinceMs: number } | undefined;
  for (;;) {
    signal.throwIfAborted();
    if (await create(path, token)) return held(path, token, staleMs);
    if (await isDone()) return { [Symbol.asyncDispose]: async () => {} };
    const found = await look(path);
    if (found === undefined) continue;
    const nowMs = performance.now();
    if (seen?.mtimeMs !== found.mtimeMs || seen.token !== found.token) {
      seen = { ...found, sinceMs: nowMs };
    } else if (nowMs - seen.sinceMs >= staleMs) {
      await takeAway(path, seen.token);
      seen = undefined;
      continue;
    }
    await delay(Math.min(lookMs, staleMs), undefined, { signal });
  }
}

async function create(path: string, token: string): Promise<boolean> {
  try {
    await using file = await open(path, "wx");
    await file.writeFile(token);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "EEXIST") return false;
    throw error;
  }
}

async function look(
  path: string,
): Promise<{ mtimeMs: number; token: string } | undefined> {
  try {
    const { mtimeMs } = await stat(path);
    return { mtimeMs, token: await readFile(path, "utf8") };
  } catch {
    // Given back between our attempt and this look.
    return undefined;
  }
}

/** Removes a dead holder's lock, and none that came in its place meanwhile. */
async function takeAway(path: string, token: string): Promise<void> {
  const aside = `${path}.${randomUUID()}`;
  try {
    await rename(path, aside);
  } catch {
    // Another waiter was faster.
    return;
  }
  const taken = await readFile(aside, "utf8").catch(() => token);
  // A live one slipped in: its holder finds it back, or notices its loss.
  if (taken !== token) await rename(aside, path).catch(() => {});
  else await rm(aside, { force: true });
}

function held(path: string, token: string, staleMs: number): AsyncDisposable {
  let lost = false;
  const isOurs = async () =>
    await readFile(path, "utf8").catch(() => "") === token;
  const timer = setInterval(async () => {
    if (lost || !await isOurs()) return void (lost = true);
    const now = new Date();
    await utimes(path, now, now).catch(() => {
      // Gone between the look and here; the next look tells.
    });
  }, Math.max(10, staleMs / 8));
  return {
    async [Symbol.asyncDispose]() {
      clearInterval(timer);
      if (!lost && await isOurs()) await rm(path, { force: true });
    },
  };
}

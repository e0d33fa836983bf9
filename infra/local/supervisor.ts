/**
 * Keeps a set of processes running.
 *
 * Each is started, watched until it answers, restarted when it dies (see
 * `restart_policy.ts`), and stopped on demand: in reverse order of starting, so
 * that nobody loses what it depends on while it finishes its work. Invariant:
 * once `stop()` has resolved, no process of ours is left.
 */
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { UserError } from "../terminal/mod.ts";
import { type Child, type Command, startChild } from "./child.ts";
import { complaintOf } from "./complaint.ts";
import { type LogFile, openLogFile } from "./log_file.ts";
import {
  decideRestart,
  defaultRestartPolicy,
  type RestartPolicy,
} from "./restart_policy.ts";

export interface ProcessSpec {
  /** Unique; also names the log file. */
  readonly name: string;
  /** Called for each start, so that a restart may choose another port. */
  launch(): Promise<Run>;
}

export interface Run {
  readonly command: Command;
  /** Asked every 50 ms until it says yes. */
  isReady(): Promise<boolean>;
}

export type SupervisorEvent =
  | { kind: "started"; name: string; pid: number }
  | { kind: "ready"; name: string; afterMs: number; again: boolean }
  | { kind: "died"; name: string; how: string; restartMs: number }
  | { kind: "gave-up"; name: string; how: string }
  | { kind: "complaint"; name: string; text: string }
  | { kind: "stopped"; name: string; forced: boolean };

export interface SupervisorOptions {
  readonly logFolder: string;
  readonly onEvent?: (event: SupervisorEvent) => void;
  readonly policy?: RestartPolicy;
  /** From SIGTERM to SIGKILL; 5,000 unless set. */
  readonly stopMs?: number;
}

const readyEveryMs = 50;

interface Entry {
  readonly spec: ProcessSpec;
  readonly log: LogFile;
  /** Aborted when this process is to stop. */
  readonly stopping: AbortController;
  child: Child | undefined;
  /** Settles when the process is no longer kept. */
  kept: Promise<void>;
  wasReady: boolean;
  isStopped: boolean;
}

export class Supervisor {
  readonly #entries: Entry[] = [];
  readonly #logFolder: string;
  readonly #onEvent: (event: SupervisorEvent) => void;
  readonly #policy: RestartPolicy;
  readonly #stopMs: number;

  constructor({
    logFolder,
    onEvent = () => {},
    policy = defaultRestartPolicy,
    stopMs = 5_000,
  }: SupervisorOptions) {
    this.#logFolder = logFolder;
    this.#onEvent = onEvent;
    this.#policy = policy;
    this.#stopMs = stopMs;
  }

  /** Resolves when the process is ready for the first time; rejects when it never gets there. */
  start(spec: ProcessSpec): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const entry: Entry = {
      spec,
      log: openLogFile(join(this.#logFolder, `${spec.name}.log`)),
      stopping: new AbortController(),
      child: undefined,
      kept: Promise.resolve(),
      wasReady: false,
      isStopped: false,
    };
    this.#entries.push(entry);
    entry.kept = this.#keep(entry, resolve).then(() => {
      reject(new UserError(`Cannot start ${spec.name}: it was stopped`));
    }, reject);
    return promise;
  }

  /** Stops all, the last started first; `atOnce` kills instead of asking. */
  async stop({ atOnce = false } = {}): Promise<void> {
    if (atOnce) {
      await Promise.all(
        this.#entries.map((entry) => this.#stopOne(entry, { atOnce })),
      );
    }
    for (const entry of this.#entries.toReversed()) {
      await this.#stopOne(entry, { atOnce });
    }
  }

  /** Runs one process again and again until it is to stop. */
  async #keep(entry: Entry, onReady: () => void): Promise<void> {
    const { spec: { name }, stopping: { signal }, log } = entry;
    let failures = 0;
    while (!signal.aborted) {
      const { uptimeMs, how } = await this.#runOnce(entry, onReady);
      if (signal.aborted) return;
      const { wasReady } = entry;
      const decision = decideRestart(
        { uptimeMs, wasReady, failures },
        this.#policy,
      );
      failures = decision.failures;
      if (decision.kind === "give-up") {
        this.#onEvent({ kind: "gave-up", name, how });
        throw neverReady(name, failures, how, log);
      }
      const restartMs = decision.delayMs;
      log.write(`-- ${name} ended: ${how}; starts again in ${restartMs} ms`);
      this.#onEvent({ kind: "died", name, how, restartMs });
      await delay(restartMs, undefined, { signal }).catch(() => {
        // Woken to stop: the loop's condition sees it.
      });
    }
  }

  async #runOnce(
    entry: Entry,
    onReady: () => void,
  ): Promise<{ uptimeMs: number; how: string }> {
    const { spec: { name }, log } = entry;
    let run: Run;
    try {
      run = await entry.spec.launch();
    } catch (error) {
      return { uptimeMs: 0, how: `not started: ${(error as Error).message}` };
    }
    if (entry.stopping.signal.aborted) return { uptimeMs: 0, how: "stopped" };
    const startMs = performance.now();
    const child = startChild(run.command, (line) => {
      log.write(line);
      const text = complaintOf(line);
      if (text) this.#onEvent({ kind: "complaint", name, text });
    });
    entry.child = child;
    this.#onEvent({ kind: "started", name, pid: child.pid });
    const over = new AbortController();
    const watching = whenReady(run, over.signal).then((ready) => {
      if (!ready) return;
      const afterMs = performance.now() - startMs;
      const again = entry.wasReady;
      entry.wasReady = true;
      this.#onEvent({ kind: "ready", name, afterMs, again });
      onReady();
    });
    const how = await child.ended;
    entry.child = undefined;
    over.abort();
    await watching;
    // Whatever it left behind in its group goes with it.
    child.signal("SIGKILL");
    return { uptimeMs: performance.now() - startMs, how };
  }

  async #stopOne(
    entry: Entry,
    { atOnce }: { atOnce: boolean },
  ): Promise<void> {
    entry.stopping.abort();
    const { child, spec: { name }, log } = entry;
    let forced = atOnce;
    child?.signal(atOnce ? "SIGKILL" : "SIGTERM");
    const timer = setTimeout(() => {
      forced = true;
      child?.signal("SIGKILL");
    }, this.#stopMs);
    await entry.kept;
    clearTimeout(timer);
    log[Symbol.dispose]();
    if (entry.isStopped) return;
    entry.isStopped = true;
    this.#onEvent({ kind: "stopped", name, forced });
  }
}

/** True once the run answers, false when it is over before that. */
async function whenReady(run: Run, over: AbortSignal): Promise<boolean> {
  while (!over.aborted) {
    // A probe that fails means "not yet"; the process itself reports its faults.
    if (await run.isReady().catch(() => false)) return !over.aborted;
    await delay(readyEveryMs, undefined, { signal: over }).catch(() => {
      // Over while waiting: the loop's condition sees it.
    });
  }
  return false;
}

function neverReady(
  name: string,
  failures: number,
  how: string,
  { path, tail }: LogFile,
): UserError {
  return new UserError(
    `Cannot start ${name}: it ended ${failures} times before it was ready, last with ${how}`,
    { hints: [`The end of ${path}:`, ...tail.map((line) => `| ${line}`)] },
  );
}

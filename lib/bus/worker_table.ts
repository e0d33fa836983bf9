import type { Clock } from "./clock.ts";
import { workerKey } from "./subjects.ts";
import type { WorkerChange, WorkerRecord, WorkerRole } from "./types.ts";

export interface WorkerTableOptions {
  readonly clock: Clock;
  /** A record not renewed for this long is gone. */
  readonly ttlMs: number;
  /** How long a worker that vanished in an outage may take to come back. */
  readonly graceMs: number;
  readonly onChange: (change: WorkerChange) => void;
}

/**
 * The workers known now, and when each was last heard of.
 *
 * NATS removes records that were not renewed, but tells no watcher about it, so the watcher
 * counts for itself. Silence is only a sign of death while we can hear: expiry pauses
 * while the connection is down, and a worker missing after an outage has `graceMs` to register
 * again (a server that lost its data has lost every worker's record at once).
 */
export class WorkerTable implements Disposable {
  readonly #entries = new Map<string, Entry>();
  readonly #options: WorkerTableOptions;
  #timer: { dueMs: number; handle: Disposable } | undefined;
  #paused = false;

  constructor(options: WorkerTableOptions) {
    this.#options = options;
  }

  get records(): WorkerRecord[] {
    return [...this.#entries.values()].map((entry) => entry.record);
  }

  /** @param ageMs How long ago the record was written. */
  put(record: WorkerRecord, ageMs = 0): void {
    const { clock, ttlMs, onChange } = this.#options;
    const dueMs = clock.nowMs() + Math.max(0, ttlMs - ageMs);
    this.#entries.set(workerKey(record.role, record.workerId), {
      record,
      dueMs,
    });
    onChange({ kind: "put", record });
    if (this.#timer && dueMs < this.#timer.dueMs) this.#disarm();
    this.#arm();
  }

  remove(role: WorkerRole, workerId: string): void {
    if (!this.#entries.delete(workerKey(role, workerId))) return;
    this.#options.onChange({ kind: "gone", role, workerId });
  }

  /** The connection is down: nobody expires until `resume()`. */
  pause(): void {
    this.#paused = true;
    this.#disarm();
  }

  /** The connection is back: everybody has at least the grace to be heard again. */
  resume(): void {
    this.#paused = false;
    const soonestMs = this.#options.clock.nowMs() + this.#options.graceMs;
    for (const entry of this.#entries.values()) {
      entry.dueMs = Math.max(entry.dueMs, soonestMs);
    }
    this.#arm();
  }

  /** Workers other than the listed keys have the grace left, not their whole time. */
  shorten(listedKeys: ReadonlySet<string>): void {
    const latestMs = this.#options.clock.nowMs() + this.#options.graceMs;
    for (const [key, entry] of this.#entries) {
      if (!listedKeys.has(key)) entry.dueMs = Math.min(entry.dueMs, latestMs);
    }
    this.#disarm();
    this.#arm();
  }

  [Symbol.dispose](): void {
    this.#disarm();
    this.#entries.clear();
  }

  /** One timer, for the soonest; a renewal leaves it, and it finds nobody due and looks again. */
  #arm(): void {
    if (this.#timer || this.#paused || this.#entries.size === 0) return;
    const dueMs = Math.min(...[...this.#entries.values()].map((e) => e.dueMs));
    const { clock } = this.#options;
    const delayMs = Math.max(1, dueMs - clock.nowMs());
    const handle = clock.setTimer(delayMs, () => {
      this.#timer = undefined;
      this.#expire();
      this.#arm();
    });
    this.#timer = { dueMs, handle };
  }

  #disarm(): void {
    this.#timer?.handle[Symbol.dispose]();
    this.#timer = undefined;
  }

  #expire(): void {
    const nowMs = this.#options.clock.nowMs();
    for (const { record, dueMs } of [...this.#entries.values()]) {
      if (dueMs <= nowMs) this.remove(record.role, record.workerId);
    }
  }
}

interface Entry {
  record: WorkerRecord;
  dueMs: number;
}

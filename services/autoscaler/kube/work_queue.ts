import type { Clock } from "../../../lib/bus/clock.ts";
import { retryWaitMs } from "./backoff.ts";

export interface WorkQueueOptions {
  readonly clock: Clock;
  readonly random: () => number;
  /** Keys worked on at once; 8 unless set. */
  readonly workersMax?: number;
  /** First wait after a failure; 100 unless set. */
  readonly retryMs?: number;
  /** Longest wait after failures; 30,000 unless set. */
  readonly retryMsMax?: number;
  /** A key that comes back after the work's answer in ms, or not at all. */
  readonly work: (key: string) => Promise<number | void>;
  readonly onFailure: (key: string, reason: unknown, waitMs: number) => void;
}

/**
 * Keys to be reconciled.
 *
 * A key is queued once however often it is added, is never worked on twice at a
 * time, and is worked on again when it was added meanwhile. A key whose work
 * fails comes back after a growing wait of its own; others do not wait for it.
 */
export class WorkQueue implements AsyncDisposable {
  readonly #options: WorkQueueOptions;
  readonly #ready = new Set<string>();
  readonly #running = new Map<string, Promise<void>>();
  readonly #again = new Set<string>();
  readonly #timers = new Map<string, { dueMs: number; timer: Disposable }>();
  readonly #failures = new Map<string, number>();
  #open = true;

  constructor(options: WorkQueueOptions) {
    this.#options = options;
  }

  /** Keys that are due or being worked on. */
  get depth(): number {
    return this.#ready.size + this.#running.size;
  }

  /** Queues the key now; a waiting retry is forgotten. */
  add(key: string): void {
    if (!this.#open) return;
    this.#disarm(key);
    if (this.#running.has(key)) this.#again.add(key);
    else this.#ready.add(key);
    this.#start();
  }

  /** Queues the key after `delayMs`, or earlier if it was to come earlier. */
  addAfter(key: string, delayMs: number): void {
    if (!this.#open || this.#ready.has(key)) return;
    const { clock } = this.#options;
    const dueMs = clock.nowMs() + delayMs;
    const waiting = this.#timers.get(key);
    if (waiting && waiting.dueMs <= dueMs) return;
    this.#disarm(key);
    const timer = clock.setTimer(delayMs, () => {
      this.#timers.delete(key);
      this.add(key);
    });
    this.#timers.set(key, { dueMs, timer });
  }

  /** Takes nothing new and waits for what is running. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#open = false;
    this.#ready.clear();
    this.#again.clear();
    for (const key of [...this.#timers.keys()]) this.#disarm(key);
    await Promise.all(this.#running.values());
  }

  #start(): void {
    const { workersMax = 8 } = this.#options;
    for (const key of this.#ready) {
      if (this.#running.size >= workersMax) return;
      this.#ready.delete(key);
      this.#running.set(key, this.#work(key));
    }
  }

  async #work(key: string): Promise<void> {
    // The map entry has to be there before the work can end.
    await Promise.resolve();
    try {
      const againMs = await this.#options.work(key);
      this.#failures.delete(key);
      if (typeof againMs === "number") this.addAfter(key, againMs);
    } catch (reason) {
      this.#retry(key, reason);
    }
    this.#running.delete(key);
    if (this.#again.delete(key)) this.add(key);
    this.#start();
  }

  #retry(key: string, reason: unknown): void {
    const { retryMs = 100, retryMsMax = 30_000, random } = this.#options;
    const failures = (this.#failures.get(key) ?? 0) + 1;
    this.#failures.set(key, failures);
    const waitMs = retryWaitMs(reason, failures, {
      firstMs: retryMs,
      maxMs: retryMsMax,
      random,
    });
    this.#options.onFailure(key, reason, waitMs);
    this.addAfter(key, waitMs);
  }

  #disarm(key: string): void {
    this.#timers.get(key)?.timer[Symbol.dispose]();
    this.#timers.delete(key);
  }
}

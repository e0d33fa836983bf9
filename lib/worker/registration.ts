import type { Bus, WorkerRecord, WorkerRole } from "../bus/types.ts";
import { within } from "../within/within.ts";

export interface RegistrationOptions {
  readonly bus: Bus;
  /** The record as it is now. */
  readonly record: () => WorkerRecord;
  /** Between renewals, ms; 1000 unless set (a record lives 10 s). */
  readonly everyMs?: number;
  readonly onError: (reason: unknown) => void;
}

/**
 * Keeps this worker's record in the bus.
 *
 * Every renewal writes the whole record, so a NATS server that lost everything knows
 * this worker again within a second, and one that is away is simply tried again.
 */
export class Registration implements AsyncDisposable {
  readonly #options: RegistrationOptions;
  readonly #timer: ReturnType<typeof setInterval>;
  #writing: Promise<void> | undefined;
  #again = false;
  #closed = false;
  #failing = false;

  constructor(options: RegistrationOptions) {
    this.#options = options;
    this.#timer = setInterval(() => this.renew(), options.everyMs ?? 1_000);
    this.renew();
  }

  /** Writes the record now, or right after the write that is under way. */
  renew(): void {
    if (this.#closed) return;
    if (this.#writing !== undefined) {
      this.#again = true;
      return;
    }
    this.#writing = this.#write().finally(() => {
      this.#writing = undefined;
      if (!this.#again) return;
      this.#again = false;
      this.renew();
    });
  }

  async #write(): Promise<void> {
    const { bus, record, onError } = this.#options;
    try {
      await bus.putWorker(record());
      this.#failing = false;
    } catch (reason) {
      // Told once per outage: the next second tries again anyway.
      if (!this.#failing) onError(reason);
      this.#failing = true;
    }
  }

  /** Stops renewing and takes the record away, waiting at most a second for either. */
  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.#timer);
    this.#closed = true;
    const { role, workerId } = this.#options.record();
    await within(1_000, this.#writing ?? Promise.resolve());
    await within(1_000, this.#remove(role, workerId));
  }

  async #remove(role: WorkerRole, workerId: string): Promise<void> {
    try {
      await this.#options.bus.removeWorker(role, workerId);
    } catch {
      // Without a bus the record ends by itself, after its time to live.
    }
  }
}

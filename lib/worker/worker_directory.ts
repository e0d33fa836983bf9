import type {
  Bus,
  WorkerModel,
  WorkerRecord,
  WorkerRole,
} from "../bus/types.ts";

/**
 * The workers of one role that are registered now, by address.
 *
 * A worker only connects to addresses that are in here: a request may name any
 * address, and without this check it could make us call hosts of its choice.
 */
export class WorkerDirectory implements Disposable {
  readonly #role: WorkerRole;
  readonly #controller = new AbortController();
  readonly #records = new Map<string, WorkerRecord>();

  constructor(role: WorkerRole) {
    this.#role = role;
  }

  /** Knows the bus's workers from now on; until then there are none. */
  follow(bus: Bus, onError: (reason: unknown) => void): void {
    this.#watch(bus).catch((reason) => {
      if (!this.#controller.signal.aborted) onError(reason);
    });
  }

  /** The worker at this address, if it serves the model now. */
  find(address: string, model: string): WorkerRecord | undefined {
    const serves = (each: WorkerModel) =>
      each.model === model && each.state === "running";
    for (const record of this.#records.values()) {
      if (record.address !== address) continue;
      if (record.models.some(serves)) return record;
    }
    return undefined;
  }

  async #watch(bus: Bus): Promise<void> {
    for await (const change of bus.watchWorkers(this.#controller.signal)) {
      if (change.kind === "put") {
        const { record } = change;
        if (record.role === this.#role) {
          this.#records.set(record.workerId, record);
        }
      } else if (change.role === this.#role) {
        this.#records.delete(change.workerId);
      }
    }
  }

  [Symbol.dispose](): void {
    this.#controller.abort();
  }
}

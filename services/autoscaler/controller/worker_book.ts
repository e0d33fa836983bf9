import type { WorkerChange, WorkerRecord } from "../../../lib/bus/types.ts";

/** What is new about one worker. */
export interface WorkerNews {
  readonly pod: string;
  /** Models that it has, or had until now. */
  readonly models: readonly string[];
  /** Absent when the worker is gone. */
  readonly record: WorkerRecord | undefined;
  /** An address that no worker has any more. */
  readonly freed: string | undefined;
}

interface Entry {
  readonly pod: string;
  readonly address: string;
  readonly models: readonly string[];
  readonly signature: string;
}

/** Where workers are reached, and which of their renewals say something new. */
export class WorkerBook {
  readonly #entries = new Map<string, Entry>();

  addressOf(workerId: string): string | undefined {
    return this.#entries.get(workerId)?.address;
  }

  /** `undefined`: nothing that concerns us has changed. */
  take(change: WorkerChange): WorkerNews | undefined {
    return change.kind === "put"
      ? this.#put(change.record)
      : this.#remove(change.workerId);
  }

  #put(record: WorkerRecord): WorkerNews | undefined {
    const { workerId, address } = record;
    const pod = record.podName ?? workerId;
    const before = this.#entries.get(workerId);
    const signature = signatureOf(record);
    if (signature === before?.signature) return undefined;
    const models = record.models.map(({ model }) => model);
    this.#entries.set(workerId, { pod, address, models, signature });
    const all = new Set([...models, ...before?.models ?? []]);
    const freed = this.#unlessUsed(before?.address);
    return { pod, models: [...all], record, freed };
  }

  #remove(workerId: string): WorkerNews | undefined {
    const before = this.#entries.get(workerId);
    if (!before) return undefined;
    this.#entries.delete(workerId);
    const { pod, models, address } = before;
    return { pod, models, record: undefined, freed: this.#unlessUsed(address) };
  }

  /** A new pod may have a dead one's address before the record of that one expires. */
  #unlessUsed(address: string | undefined): string | undefined {
    const isUsed = this.#entries.values().some((own) =>
      own.address === address
    );
    return isUsed ? undefined : address;
  }
}

/** A renewal with other rates is no news. */
function signatureOf({ draining, address, models }: WorkerRecord): string {
  const states = models.map(({ model, state }) => `${model}=${state}`);
  return [draining, address, ...states.toSorted()].join("\n");
}

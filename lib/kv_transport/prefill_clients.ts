import { PrefillClient } from "../../proto/gen/quetzal/v1/prefill.ts";
import { connect } from "../rpc/mod.ts";

/** A window holds many blocks: they shall not wait for one another's arrival. */
const windowBytes = 8 << 20;

/** One connection per prefill worker, closed when it has been idle for a while. */
export class PrefillClients implements Disposable {
  readonly #idleMs: number;
  readonly #closed: (address: string) => void;
  readonly #entries = new Map<string, Entry>();

  constructor({ idleMs, closed = () => {} }: {
    readonly idleMs: number;
    /** Told when a connection was closed. */
    readonly closed?: (address: string) => void;
  }) {
    this.#idleMs = idleMs;
    this.#closed = closed;
  }

  get count(): number {
    return this.#entries.size;
  }

  /** `using lease = clients.lease(address)` */
  lease(address: string): ClientLease {
    const entry = this.#entries.get(address) ?? this.#open(address);
    entry.users++;
    clearTimeout(entry.idleTimer);
    let isHeld = true;
    return {
      client: entry.client,
      [Symbol.dispose]: () => {
        if (!isHeld) return;
        isHeld = false;
        if (--entry.users > 0) return;
        entry.idleTimer = setTimeout(
          () => this.#close(address, entry),
          this.#idleMs,
        );
        entry.idleTimer.unref();
      },
    };
  }

  #open(address: string): Entry {
    const client = connect(PrefillClient, address, { windowBytes });
    const entry: Entry = { client, users: 0, idleTimer: undefined };
    this.#entries.set(address, entry);
    return entry;
  }

  #close(address: string, entry: Entry): void {
    this.#entries.delete(address);
    entry.client.close();
    this.#closed(address);
  }

  [Symbol.dispose](): void {
    for (const [address, entry] of this.#entries) {
      clearTimeout(entry.idleTimer);
      this.#close(address, entry);
    }
  }
}

export interface ClientLease extends Disposable {
  readonly client: PrefillClient;
}

interface Entry {
  readonly client: PrefillClient;
  users: number;
  idleTimer: ReturnType<typeof setTimeout> | undefined;
}

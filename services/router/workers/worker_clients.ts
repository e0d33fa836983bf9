import { DecodeLink } from "../../../lib/decode_link/mod.ts";
import { connect } from "../../../lib/rpc/mod.ts";
import { DecodeClient } from "../../../proto/gen/quetzal/v1/decode.ts";
import { EmbedClient } from "../../../proto/gen/quetzal/v1/embed.ts";

/** What a client of one worker has to know. */
interface ClientKind<T> {
  open(address: string): T;
  /** Closes the connection; what runs on it ends by itself first. */
  retire(client: T): void;
  /** Closes it at once. */
  close(client: T): void;
}

/** One client per worker, made on first use. */
export class WorkerClients<T> implements Disposable {
  readonly #kind: ClientKind<T>;
  readonly #clients = new Map<string, T>();

  constructor(kind: ClientKind<T>) {
    this.#kind = kind;
  }

  at(address: string): T {
    let client = this.#clients.get(address);
    if (client === undefined) {
      client = this.#kind.open(address);
      this.#clients.set(address, client);
    }
    return client;
  }

  /** Nobody is there any more. */
  drop(address: string): void {
    const client = this.#clients.get(address);
    if (client === undefined) return;
    this.#clients.delete(address);
    this.#kind.retire(client);
  }

  [Symbol.dispose](): void {
    for (const client of this.#clients.values()) this.#kind.close(client);
    this.#clients.clear();
  }
}

/** A link carries all sequences on its worker. */
export function decodeLinks(): WorkerClients<DecodeLink> {
  return new WorkerClients({
    open: (address) => new DecodeLink(connect(DecodeClient, address)),
    retire: (link) => link.retire(),
    close: (link) => link[Symbol.dispose](),
  });
}

/** Of workers of either role. */
export function embedClients(): WorkerClients<EmbedClient> {
  const close = (client: EmbedClient) => client.close();
  return new WorkerClients({
    open: (address) => connect(EmbedClient, address),
    // gRPC lets calls that run on a closed client end.
    retire: close,
    close,
  });
}

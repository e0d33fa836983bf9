import { connect } from "../../../lib/rpc/mod.ts";
import { EmbedClient } from "../../../proto/gen/quetzal/v1/embed.ts";

/** One client per worker, made on first use. */
export class EmbedClients implements Disposable {
  readonly #clients = new Map<string, EmbedClient>();

  at(address: string): EmbedClient {
    let client = this.#clients.get(address);
    if (client === undefined) {
      client = connect(EmbedClient, address);
      this.#clients.set(address, client);
    }
    return client;
  }

  /** Closes the connection; calls that run on it end by themselves first. */
  drop(address: string): void {
    this.#clients.get(address)?.close();
    this.#clients.delete(address);
  }

  [Symbol.dispose](): void {
    for (const client of this.#clients.values()) client.close();
    this.#clients.clear();
  }
}

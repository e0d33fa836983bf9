import { connect } from "../../../lib/rpc/mod.ts";
import { DecodeClient } from "../../../proto/gen/quetzal/v1/decode.ts";

/** One connection per decode worker, made on first use. */
export class DecodeClients implements Disposable {
  readonly #clients = new Map<string, DecodeClient>();

  at(address: string): DecodeClient {
    let client = this.#clients.get(address);
    if (client === undefined) {
      client = connect(DecodeClient, address);
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
    for (const address of [...this.#clients.keys()]) this.drop(address);
  }
}

import { DecodeLink } from "../../../lib/decode_link/mod.ts";
import { connect } from "../../../lib/rpc/mod.ts";
import { DecodeClient } from "../../../proto/gen/quetzal/v1/decode.ts";

/** One link per decode worker, made on first use. */
export class DecodeClients implements Disposable {
  readonly #links = new Map<string, DecodeLink>();

  at(address: string): DecodeLink {
    let link = this.#links.get(address);
    if (link === undefined) {
      link = new DecodeLink(connect(DecodeClient, address));
      this.#links.set(address, link);
    }
    return link;
  }

  /** Closes the connection; sequences that run on it end by themselves first. */
  drop(address: string): void {
    this.#links.get(address)?.retire();
    this.#links.delete(address);
  }

  [Symbol.dispose](): void {
    for (const link of this.#links.values()) link[Symbol.dispose]();
    this.#links.clear();
  }
}

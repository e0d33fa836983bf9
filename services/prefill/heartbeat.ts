import type { PrefillEvent } from "../../proto/gen/quetzal/v1/prefill.ts";
import type { RpcSink } from "../../lib/rpc/mod.ts";

/** Decode workers give up after some seconds of silence; this leaves room for three. */
const everyMs = 500;

/**
 * Tells a waiting decode worker that its prompt is still queued or computed, by a
 * message without an event, so that it can tell a busy worker from a dead one.
 */
export class Heartbeat implements Disposable {
  readonly #timer: ReturnType<typeof setInterval>;

  constructor(sink: RpcSink<PrefillEvent>, alive: () => boolean) {
    this.#timer = setInterval(() => {
      // Whoever has unread messages needs no sign of life.
      if (alive() && sink.pending === 0) sink.write({ event: undefined });
    }, everyMs);
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
  }
}

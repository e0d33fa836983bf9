import { context, propagation } from "@opentelemetry/api";
import {
  type DecodeClient,
  type DecodeEvent,
  type DecodeRequest,
  LinkBatch,
  type LinkCommand,
  type LinkItem,
} from "../../proto/gen/quetzal/v1/decode.ts";
import { Code, MeshError } from "../errors/mesh_error.ts";
import { EventQueue } from "../event_queue/event_queue.ts";
import { type Duplex, openDuplex, type RpcCallOptions } from "../rpc/mod.ts";

/** The reader of a sequence fell too far behind. */
export class SlowReaderError extends MeshError {}

/**
 * The caller's end of `Decode.Attach`: one call to a worker carries all of our
 * sequences there.
 *
 * A message of its own for each token of each sequence costs both ends more than
 * the router's other work for it; here the tokens of a step arrive together.
 * What the call's flow control did for a single sequence is done by count: a
 * reader that is `unreadMax` events behind loses its sequence.
 */
export class DecodeLink implements Disposable {
  readonly #client: DecodeClient;
  readonly #unreadMax: number;
  readonly #sequences = new Map<number, LinkSequence>();
  #duplex: (Duplex<LinkBatch, LinkCommand> & { cancel(): void }) | undefined;
  #count = 0;
  #isRetired = false;

  constructor(client: DecodeClient, { unreadMax = 4_096 } = {}) {
    this.#client = client;
    this.#unreadMax = unreadMax;
  }

  /** Runs one sequence; the active trace goes along. Errors as in `callStream`. */
  generate(
    request: DecodeRequest,
    { signal, deadlineMs }: RpcCallOptions = {},
  ): AsyncIterable<DecodeEvent> {
    signal?.throwIfAborted();
    const number = this.#number();
    const traceContext: Record<string, string> = {};
    propagation.inject(context.active(), traceContext);
    const timeoutMs = deadlineMs === undefined
      ? 0
      : Math.max(1, deadlineMs - Date.now());
    this.#open().write({
      command: {
        $case: "start",
        value: {
          sequence: number,
          request,
          traceContext,
          timeoutMs: Math.min(timeoutMs, 2 ** 31 - 1),
        },
      },
    });
    return this.#follow(number, signal);
  }

  /** Closes once the running sequences have ended. */
  retire(): void {
    this.#isRetired = true;
    this.#closeIfDone();
  }

  /** Cancels what runs. */
  [Symbol.dispose](): void {
    this.#duplex?.cancel();
    this.#client.close();
  }

  #closeIfDone(): void {
    if (!this.#isRetired || this.#sequences.size > 0) return;
    this.#duplex?.end();
    this.#client.close();
  }

  #follow(
    number: number,
    signal: AbortSignal | undefined,
  ): EventQueue<DecodeEvent> {
    const abort = () => this.#giveUp(number, signal?.reason);
    const events = new EventQueue<DecodeEvent>(() =>
      this.#giveUp(number, undefined)
    );
    signal?.addEventListener("abort", abort);
    this.#sequences.set(number, {
      events,
      left: () => signal?.removeEventListener("abort", abort),
    });
    return events;
  }

  #number(): number {
    do this.#count = (this.#count + 1) >>> 0; while (
      this.#sequences.has(this.#count)
    );
    return this.#count;
  }

  #open(): Duplex<LinkBatch, LinkCommand> {
    if (this.#duplex) return this.#duplex;
    const duplex = openDuplex<LinkBatch, LinkCommand>((metadata) =>
      this.#client.attach(metadata)
    );
    duplex.onMessage = ({ items }) => {
      for (const item of items) this.#take(item);
    };
    duplex.onEnd = (reason) => {
      this.#duplex = undefined;
      this.#failAll(reason);
    };
    return this.#duplex = duplex;
  }

  #take({ sequence: number, event, ended }: LinkItem): void {
    const sequence = this.#sequences.get(number);
    // What was under way when we cancelled.
    if (sequence === undefined) return;
    if (event) sequence.events.push(event);
    if (ended) {
      this.#leave(number);
      sequence.events.end();
    } else if (sequence.events.unread > this.#unreadMax) {
      const behind = sequence.events.unread;
      this.#giveUp(
        number,
        new SlowReaderError(
          Code.cancelled,
          `Cannot go on: the client is ${behind} messages behind`,
        ),
      );
    }
  }

  #giveUp(number: number, reason: unknown): void {
    const sequence = this.#leave(number);
    if (sequence === undefined) return;
    sequence.events.fail(reason);
    this.#duplex?.write({ command: { $case: "cancel", value: number } });
  }

  #leave(number: number): LinkSequence | undefined {
    const sequence = this.#sequences.get(number);
    this.#sequences.delete(number);
    sequence?.left();
    if (sequence) this.#closeIfDone();
    return sequence;
  }

  #failAll(reason: unknown): void {
    const error = new MeshError(
      Code.unavailable,
      "The link to the worker has ended",
      { cause: reason },
    );
    for (const number of [...this.#sequences.keys()]) {
      this.#leave(number)?.events.fail(error);
    }
  }
}

interface LinkSequence {
  readonly events: EventQueue<DecodeEvent>;
  /** It ended: stop listening. */
  left(): void;
}

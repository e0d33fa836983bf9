import type { handleBidiStreamingCall } from "@grpc/grpc-js";
import { context, propagation, ROOT_CONTEXT } from "@opentelemetry/api";
import {
  type DecodeEvent,
  DecodeRequest,
  type LinkBatch,
  type LinkCommand,
  type LinkItem,
  type LinkStart,
} from "../../proto/gen/quetzal/v1/decode.ts";
import { Code, MeshError } from "../errors/mesh_error.ts";
import {
  type CallContext,
  type Duplex,
  duplexMethod,
  type RpcSink,
} from "../rpc/mod.ts";

/** What serves `Decode.Generate` serves the sequences of a link too. */
export type SequenceHandler = (
  request: DecodeRequest,
  call: CallContext,
  sink: RpcSink<DecodeEvent>,
) => Promise<void>;

/** `Decode.Attach`. What the handler throws is the sequence's last event. */
export function linkMethod(
  handler: SequenceHandler,
  asError: (reason: unknown) => DecodeEvent,
): handleBidiStreamingCall<LinkCommand, LinkBatch> {
  return duplexMethod<LinkCommand, LinkBatch>((duplex, call) => {
    new LinkServer(duplex, call, handler, asError);
  });
}

/**
 * Serves one link. Events of one turn of the event loop leave as one message:
 * that is what a step brought to all sequences.
 */
class LinkServer {
  readonly #duplex: Duplex<LinkCommand, LinkBatch>;
  readonly #call: CallContext;
  readonly #handler: SequenceHandler;
  readonly #asError: (reason: unknown) => DecodeEvent;
  readonly #running = new Map<number, AbortController>();
  #outbox: LinkItem[] = [];
  #isFlushing = false;
  /** Set while the other side does not read. */
  #slow: Promise<void> | undefined;

  constructor(
    duplex: Duplex<LinkCommand, LinkBatch>,
    call: CallContext,
    handler: SequenceHandler,
    asError: (reason: unknown) => DecodeEvent,
  ) {
    this.#duplex = duplex;
    this.#call = call;
    this.#handler = handler;
    this.#asError = asError;
    duplex.onMessage = ({ command }) => {
      if (command?.$case === "start") this.#start(command.value);
      if (command?.$case === "cancel") this.#cancel(command.value);
    };
    duplex.onEnd = (reason) => this.#end(reason);
  }

  #start(start: LinkStart): void {
    const { sequence } = start;
    // Two sequences under one number could never be told apart again.
    if (this.#running.has(sequence)) return this.#cutOff(sequence);
    const controller = new AbortController();
    this.#running.set(sequence, controller);
    this.#run(start, controller);
  }

  async #run(start: LinkStart, controller: AbortController): Promise<void> {
    const { sequence, request, timeoutMs } = start;
    const timer = timeoutMs > 0
      ? setTimeout(() => controller.abort(tooLate()), timeoutMs)
      : undefined;
    const call = this.#contextOf(start, controller.signal);
    const sink = {
      write: (event: DecodeEvent) =>
        this.#send({ sequence, event, ended: false }),
      pending: 0,
    };
    try {
      await context.with(
        call.trace,
        () => this.#handler(request ?? DecodeRequest.create(), call, sink),
      );
    } catch (reason) {
      this.#send({ sequence, event: this.#asError(reason), ended: false });
    }
    clearTimeout(timer);
    this.#running.delete(sequence);
    this.#send({ sequence, event: undefined, ended: true });
  }

  #contextOf(
    { traceContext, timeoutMs }: LinkStart,
    signal: AbortSignal,
  ): CallContext {
    return {
      signal,
      deadlineMs: timeoutMs > 0 ? Date.now() + timeoutMs : undefined,
      peer: this.#call.peer,
      trace: propagation.extract(ROOT_CONTEXT, traceContext),
      header: (key) => traceContext[key],
    };
  }

  #cancel(sequence: number): void {
    this.#running.get(sequence)?.abort(
      new MeshError(Code.cancelled, "The caller cancelled the sequence"),
    );
  }

  #send(item: LinkItem): Promise<void> | undefined {
    this.#outbox.push(item);
    if (!this.#isFlushing) {
      this.#isFlushing = true;
      setImmediate(() => this.#flush());
    }
    return this.#slow;
  }

  #flush(): void {
    this.#isFlushing = false;
    const items = this.#outbox;
    this.#outbox = [];
    const slow = this.#duplex.write({ items });
    if (slow === undefined || this.#slow) return;
    this.#slow = slow.then(() => this.#slow = undefined);
  }

  #cutOff(sequence: number): void {
    this.#end(
      new MeshError(
        Code.invalidArgument,
        `Cannot start sequence ${sequence}: needs an unused number, it runs already`,
      ),
    );
    this.#duplex.end();
  }

  #end(reason: unknown): void {
    const why = reason ??
      new MeshError(Code.cancelled, "The caller ended the link");
    for (const controller of this.#running.values()) controller.abort(why);
    if (reason === undefined) this.#duplex.end();
  }
}

function tooLate(): MeshError {
  return new MeshError(
    Code.deadlineExceeded,
    "The sequence's deadline has passed",
  );
}

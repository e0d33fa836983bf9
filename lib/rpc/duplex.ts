import type {
  ClientDuplexStream,
  handleBidiStreamingCall,
  Metadata,
  ServerDuplexStream,
} from "@grpc/grpc-js";
import {
  type CallContext,
  callContext,
  outgoingMetadata,
} from "./call_context.ts";
import { drained } from "./drained.ts";
import { fromCallError } from "./status.ts";

/** Our end of a call in which both sides send. */
export interface Duplex<In, Out> {
  /** Called with each message of the other side. */
  onMessage: (message: In) => void;
  /** Called once: the other side ended (`undefined`), or the call broke. */
  onEnd: (reason: unknown) => void;
  /** As `RpcSink.write`. After the end it does nothing. */
  write(message: Out): Promise<void> | undefined;
  /** We send no more. */
  end(): void;
}

/** A method in which both sides send; `handler` sets the callbacks before it returns. */
export function duplexMethod<In, Out>(
  handler: (duplex: Duplex<In, Out>, call: CallContext) => void,
): handleBidiStreamingCall<In, Out> {
  return (call) => {
    const ctx = callContext(call);
    const duplex = new DuplexCall<In, Out>(call, () => call.end());
    ctx.signal.addEventListener(
      "abort",
      () => duplex.finish(ctx.signal.reason),
    );
    handler(duplex, ctx);
    duplex.listen();
  };
}

/** `openDuplex(client.attach.bind(client))` */
export function openDuplex<In, Out>(
  method: (metadata: Metadata) => ClientDuplexStream<Out, In>,
): Duplex<In, Out> & { cancel(): void } {
  const call = method(outgoingMetadata());
  const duplex = new DuplexCall<In, Out>(call, () => call.end());
  // The callbacks are set in the same turn; messages come later.
  duplex.listen();
  return Object.assign(duplex, { cancel: () => call.cancel() });
}

type AnyDuplex<In, Out> =
  | ClientDuplexStream<Out, In>
  | ServerDuplexStream<In, Out>;

class DuplexCall<In, Out> implements Duplex<In, Out> {
  onMessage: (message: In) => void = () => {};
  onEnd: (reason: unknown) => void = () => {};
  readonly end: () => void;
  readonly #call: AnyDuplex<In, Out>;
  readonly #drained: () => Promise<void>;
  #isOver = false;

  constructor(call: AnyDuplex<In, Out>, end: () => void) {
    this.#call = call;
    this.end = end;
    this.#drained = drained(call);
  }

  listen(): void {
    this.#call.on("data", (message: In) => {
      if (!this.#isOver) this.onMessage(message);
    });
    this.#call.on("end", () => this.finish(undefined));
    this.#call.on("error", (error: Error) => this.finish(fromCallError(error)));
  }

  write(message: Out): Promise<void> | undefined {
    if (this.#isOver || this.#call.write(message)) return undefined;
    return this.#drained();
  }

  finish(reason: unknown): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.onEnd(reason);
  }
}

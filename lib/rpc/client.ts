import {
  type CallOptions,
  type ChannelCredentials,
  type Client,
  type ClientOptions,
  type ClientReadableStream,
  credentials,
  type Metadata,
  type ServiceError,
} from "@grpc/grpc-js";
import { outgoingMetadata } from "./call_context.ts";
import { fromCallError, fromServiceError } from "./status.ts";

/** A generated client class. */
export interface ClientClass<C extends Client> {
  new (
    address: string,
    credentials: ChannelCredentials,
    options?: Partial<ClientOptions>,
  ): C;
}

export interface ConnectOptions {
  /** Largest message taken, bytes; 64 MiB unless set (KV blocks are large). */
  receiveBytesMax?: number;
  /**
   * Bytes the other side may send ahead of what we have read, per connection;
   * 64 KiB unless set, which costs a round trip per 64 KiB of bulk data.
   */
  windowBytes?: number;
}

/** A client of `address` ("host:port"); it connects with its first call. */
export function connect<C extends Client>(
  clientClass: ClientClass<C>,
  address: string,
  { receiveBytesMax = 64 << 20, windowBytes }: ConnectOptions = {},
): C {
  return new clientClass(address, credentials.createInsecure(), {
    "grpc.max_receive_message_length": receiveBytesMax,
    "grpc.keepalive_time_ms": 10_000,
    "grpc.keepalive_timeout_ms": 10_000,
    // Statistics of every call that nobody can ask for.
    "grpc.enable_channelz": 0,
    // A restarted worker is back within a second or so; the default of two
    // minutes between attempts would keep it unused.
    "grpc.initial_reconnect_backoff_ms": 100,
    "grpc.max_reconnect_backoff_ms": 1_000,
    // Clients of one address share nothing: a closed one must not close others.
    "grpc.use_local_subchannel_pool": 1,
    ...(windowBytes && { "grpc-node.flow_control_window": windowBytes }),
  });
}

export interface RpcCallOptions {
  signal?: AbortSignal;
  /** When the call ends by itself, as `Date.now()`. */
  deadlineMs?: number;
  /** Extra metadata; the active trace is added. */
  metadata?: Readonly<Record<string, string>>;
}

type StreamMethod<Request, Response> = (
  request: Request,
  metadata: Metadata,
  options: Partial<CallOptions>,
) => ClientReadableStream<Response>;

type UnaryMethod<Request, Response> = (
  request: Request,
  metadata: Metadata,
  options: Partial<CallOptions>,
  callback: (error: ServiceError | null, response: Response) => void,
) => { cancel(): void };

/** `await callUnary(client.listModels.bind(client), {})` */
export function callUnary<Request, Response>(
  method: UnaryMethod<Request, Response>,
  request: Request,
  options: RpcCallOptions = {},
): Promise<Response> {
  options.signal?.throwIfAborted();
  return new Promise((resolve, reject) => {
    const stop = () => call.cancel();
    const call = method(
      request,
      metadataOf(options),
      callOptions(options),
      (error, response) => {
        options.signal?.removeEventListener("abort", stop);
        if (!error) resolve(response);
        else {reject(
            options.signal?.aborted
              ? options.signal.reason
              : fromServiceError(error),
          );}
      },
    );
    options.signal?.addEventListener("abort", stop);
  });
}

/**
 * `for await (const event of callStream(client.generate.bind(client), request))`
 *
 * Reads no faster than the consumer: beyond `bufferMax` unread messages the
 * stream is paused and HTTP/2 flow control holds the sender. Leaving the loop
 * cancels the call; a failed call throws a `MeshError`, an aborted one the
 * signal's reason.
 */
export function callStream<Request, Response>(
  method: StreamMethod<Request, Response>,
  request: Request,
  options: RpcCallOptions & { bufferMax?: number } = {},
): AsyncIterableIterator<Response> {
  options.signal?.throwIfAborted();
  const call = method(request, metadataOf(options), callOptions(options));
  return new CallStream(call, options.bufferMax ?? 64, options.signal);
}

/**
 * The messages of a call as an iterator. It is written by hand because this is
 * the hottest path of a router: a queued message costs one resolved promise.
 */
class CallStream<Response> implements AsyncIterableIterator<Response> {
  readonly #call: ClientReadableStream<Response>;
  readonly #bufferMax: number;
  readonly #signal: AbortSignal | undefined;
  readonly #queue: Response[] = [];
  #waiting: {
    resolve(result: IteratorResult<Response>): void;
    reject(reason: unknown): void;
  } | undefined;
  #end: { reason: unknown } | undefined;

  constructor(
    call: ClientReadableStream<Response>,
    bufferMax: number,
    signal: AbortSignal | undefined,
  ) {
    this.#call = call;
    this.#bufferMax = bufferMax;
    this.#signal = signal;
    call.on("data", (message) => this.#take(message));
    call.on("error", (error) => this.#finish(asReason(error, signal)));
    call.on("end", () => this.#finish(undefined));
    signal?.addEventListener("abort", this.#abort);
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  next(): Promise<IteratorResult<Response>> {
    const message = this.#queue.shift();
    if (message !== undefined) {
      if (this.#queue.length === 0 && this.#call.isPaused()) {
        this.#call.resume();
      }
      return Promise.resolve({ done: false, value: message });
    }
    if (this.#end) return this.#ended(this.#end.reason);
    return new Promise((resolve, reject) =>
      this.#waiting = { resolve, reject }
    );
  }

  return(): Promise<IteratorResult<Response>> {
    this.#finish(undefined);
    this.#queue.length = 0;
    this.#call.cancel();
    return Promise.resolve({ done: true, value: undefined });
  }

  readonly #abort = () => {
    this.#finish(this.#signal?.reason);
    this.#queue.length = 0;
    this.#call.cancel();
  };

  #take(message: Response): void {
    if (this.#end) return;
    if (this.#waiting) {
      this.#waiting.resolve({ done: false, value: message });
      this.#waiting = undefined;
      return;
    }
    this.#queue.push(message);
    if (this.#queue.length >= this.#bufferMax) this.#call.pause();
  }

  #finish(reason: unknown): void {
    if (this.#end) return;
    this.#end = { reason };
    this.#signal?.removeEventListener("abort", this.#abort);
    if (!this.#waiting) return;
    const { resolve, reject } = this.#waiting;
    this.#waiting = undefined;
    if (reason === undefined) resolve({ done: true, value: undefined });
    else reject(reason);
  }

  #ended(reason: unknown): Promise<IteratorResult<Response>> {
    if (reason === undefined) {
      return Promise.resolve({ done: true, value: undefined });
    }
    return Promise.reject(reason);
  }
}

function asReason(error: Error, signal: AbortSignal | undefined): unknown {
  return signal?.aborted ? signal.reason : fromCallError(error);
}

function metadataOf({ metadata = {} }: RpcCallOptions): Metadata {
  const carrier = outgoingMetadata();
  for (const [key, value] of Object.entries(metadata)) carrier.set(key, value);
  return carrier;
}

function callOptions({ deadlineMs }: RpcCallOptions): Partial<CallOptions> {
  return deadlineMs === undefined ? {} : { deadline: deadlineMs };
}

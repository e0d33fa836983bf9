import { readFileSync } from "node:fs";
import {
  type handleServerStreamingCall,
  type handleUnaryCall,
  Server,
  ServerCredentials,
  type ServerWritableStream,
  type ServiceDefinition,
  type UntypedServiceImplementation,
} from "@grpc/grpc-js";
import { ReflectionService } from "@grpc/reflection";
import { context } from "@opentelemetry/api";
import { HealthImplementation } from "grpc-health-check";
import { within } from "../within/within.ts";
import { type CallContext, callContext } from "./call_context.ts";
import { drained } from "./drained.ts";
import { toServiceError } from "./status.ts";

export interface RpcServerOptions {
  /** Interface to bind, "127.0.0.1" unless set. */
  host?: string;
  /** 0 takes any free port. */
  port: number;
  services: readonly RpcService[];
  /** Largest message taken, bytes; 4 MiB unless set. */
  receiveBytesMax?: number;
}

export interface RpcService {
  /** Full name: "quetzal.v1.Decode". */
  name: string;
  definition: ServiceDefinition;
  implementation: UntypedServiceImplementation;
}

export interface RpcServer {
  readonly port: number;
  /** Answers of `grpc.health.v1`; all services (and "") start as NOT_SERVING. */
  setServing(serving: boolean): void;
  /** Takes no new calls, waits for running ones at most `graceMs`, then cuts. */
  close(graceMs: number): Promise<void>;
}

/**
 * Serves with health and reflection. Keepalive is 10 s: shorter ones trip under
 * load.
 */
export async function startRpcServer(
  options: RpcServerOptions,
): Promise<RpcServer> {
  const { host = "127.0.0.1", port, services, receiveBytesMax } = options;
  const server = new Server({
    "grpc.max_receive_message_length": receiveBytesMax ?? 4 << 20,
    "grpc.keepalive_time_ms": 10_000,
    "grpc.keepalive_timeout_ms": 10_000,
  });
  for (const { definition, implementation } of services) {
    server.addService(definition, implementation);
  }
  const names = ["", ...services.map((service) => service.name)];
  const health = new HealthImplementation(
    Object.fromEntries(names.map((name) => [name, "NOT_SERVING" as const])),
  );
  health.addToServer(server);
  reflection(services.map((service) => service.name)).addToServer(server);
  const boundPort = await bind(server, host, port);
  return {
    port: boundPort,
    setServing(serving) {
      const state = serving ? "SERVING" : "NOT_SERVING";
      for (const name of names) health.setStatus(name, state);
    },
    close: (graceMs) => shutDown(server, graceMs),
  };
}

/**
 * Reflection from our own descriptor set. The library's types ask for a package
 * of proto-loader, but it reads the descriptor bytes only.
 */
function reflection(services: string[]): ReflectionService {
  const path = new URL("../../proto/gen/descriptors.binpb", import.meta.url);
  const fileDescriptorProtos = splitDescriptorSet(readFileSync(path));
  return new ReflectionService(
    { all: { format: "", type: {}, fileDescriptorProtos } } as never,
    { services },
  );
}

/** FileDescriptorSet is `repeated FileDescriptorProto file = 1`: cut it at the field. */
function splitDescriptorSet(set: Uint8Array): Uint8Array[] {
  const files: Uint8Array[] = [];
  let at = 0;
  while (at < set.length) {
    at += 1; // tag 0x0a
    let bytes = 0;
    for (let shift = 0;; shift += 7) {
      const byte = set[at++];
      bytes |= (byte & 0x7f) << shift;
      if (byte < 0x80) break;
    }
    files.push(set.subarray(at, at + bytes));
    at += bytes;
  }
  return files;
}

function bind(server: Server, host: string, port: number): Promise<number> {
  return new Promise((resolve, reject) => {
    const credentials = ServerCredentials.createInsecure();
    server.bindAsync(`${host}:${port}`, credentials, (error, boundPort) => {
      if (!error) return resolve(boundPort);
      reject(
        new Error(
          `Cannot serve gRPC: needs ${host}:${port}, found it taken or refused (${error.message})`,
          { cause: error },
        ),
      );
    });
  });
}

async function shutDown(server: Server, graceMs: number): Promise<void> {
  const graceful = new Promise<void>((resolve) =>
    server.tryShutdown(() => resolve())
  );
  await within(graceMs, graceful);
  server.forceShutdown();
}

/** A unary method; what the handler throws becomes the call's status. */
export function unary<Request, Response>(
  handler: (
    request: Request,
    call: CallContext,
  ) => Promise<Response> | Response,
): handleUnaryCall<Request, Response> {
  return async (call, callback) => {
    const ctx = callContext(call);
    try {
      const response = await context.with(
        ctx.trace,
        () => handler(call.request, ctx),
      );
      callback(null, response);
    } catch (reason) {
      callback(toServiceError(reason));
    }
  };
}

/** Where a streaming handler puts its messages. */
export interface RpcSink<Response> {
  /**
   * Sends one message. `undefined`: go on at once; a promise: the other side
   * reads slowly, wait for it before the next one (it resolves too when the
   * call is over).
   */
  write(message: Response): Promise<void> | undefined;
  /** Messages handed over and not yet taken by the network. */
  readonly pending: number;
}

/**
 * A server-streaming method. Failures travel in-band: `asError` makes the last
 * message of them, and the status of the call is OK, because some clients drop
 * messages that precede an error status.
 */
export function serverStream<Request, Response>(
  handler: (
    request: Request,
    call: CallContext,
    sink: RpcSink<Response>,
  ) => Promise<void>,
  asError: (reason: unknown) => Response,
): handleServerStreamingCall<Request, Response> {
  return async (call) => {
    const ctx = callContext(call);
    const sink = new CallSink(call);
    try {
      await context.with(ctx.trace, () => handler(call.request, ctx, sink));
    } catch (reason) {
      if (!call.cancelled) call.write(asError(reason));
    }
    call.end();
  };
}

class CallSink<Response> implements RpcSink<Response> {
  readonly #call: ServerWritableStream<unknown, Response>;
  readonly #drained: () => Promise<void>;

  constructor(call: ServerWritableStream<unknown, Response>) {
    this.#call = call;
    this.#drained = drained(call);
  }

  get pending(): number {
    return this.#call.writableLength;
  }

  write(message: Response): Promise<void> | undefined {
    if (this.#call.cancelled || this.#call.write(message)) return undefined;
    return this.#drained();
  }
}

import { Metadata } from "@grpc/grpc-js";
import {
  type Context,
  context,
  propagation,
  ROOT_CONTEXT,
  type TextMapGetter,
  type TextMapSetter,
} from "@opentelemetry/api";
import { Code, MeshError } from "../errors/mesh_error.ts";

/** What a handler knows of its call. */
export interface CallContext {
  /** Aborted when the client cancels, is gone, or its deadline has passed. */
  readonly signal: AbortSignal;
  /** When the client stops waiting, as `Date.now()`; absent without deadline. */
  readonly deadlineMs: number | undefined;
  /** Address of the other side. */
  readonly peer: string;
  /** The caller's trace, for spans of this call. */
  readonly trace: Context;
  /** First value of a metadata key. */
  header(key: string): string | undefined;
}

const getter: TextMapGetter<Metadata> = {
  keys: (metadata) => Object.keys(metadata.getMap()),
  get: (metadata, key) => metadata.get(key)[0]?.toString(),
};

const setter: TextMapSetter<Metadata> = {
  set: (metadata, key, value) => metadata.set(key, value),
};

/** Metadata that carries the active trace. */
export function outgoingMetadata(): Metadata {
  const metadata = new Metadata();
  propagation.inject(context.active(), metadata, setter);
  return metadata;
}

/** What unary and streaming calls of the server have in common. */
interface AnyCall {
  readonly metadata: Metadata;
  getPeer(): string;
  getDeadline(): Date | number;
  on(event: "cancelled", listener: () => void): unknown;
}

export function callContext(call: AnyCall): CallContext {
  const controller = new AbortController();
  const deadlineMs = deadlineOf(call);
  call.on("cancelled", () => {
    const late = deadlineMs !== undefined && Date.now() >= deadlineMs;
    controller.abort(
      late
        ? new MeshError(Code.deadlineExceeded, "The call's deadline has passed")
        : new MeshError(Code.cancelled, "The caller cancelled the call"),
    );
  });
  return {
    signal: controller.signal,
    deadlineMs,
    peer: call.getPeer(),
    trace: propagation.extract(ROOT_CONTEXT, call.metadata, getter),
    header: (key) => call.metadata.get(key)[0]?.toString(),
  };
}

function deadlineOf(call: AnyCall): number | undefined {
  const deadline = call.getDeadline();
  const ms = deadline instanceof Date ? deadline.getTime() : deadline;
  return Number.isFinite(ms) ? ms : undefined;
}

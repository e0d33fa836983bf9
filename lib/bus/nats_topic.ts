import type { Msg, NatsConnection } from "@nats-io/transport-node";
import type { z } from "zod";
import { BoundedQueue } from "./bounded_queue.ts";
import { decodeMessage, encodeMessage } from "./messages.ts";
import { asBag, traceHeaders } from "./nats_headers.ts";
import { subscribe } from "./nats_subscribe.ts";
import type { OpenStreams } from "./open_streams.ts";
import { rememberTrace } from "./trace_context.ts";
import type { Warnings } from "./warnings.ts";

export interface TopicParts {
  readonly nc: NatsConnection;
  readonly isConnected: () => boolean;
  readonly streams: OpenStreams;
  readonly warnings: Warnings;
  readonly queueMax: number;
}

/** One kind of message: where it is published, where all of it is read, what it must hold. */
export interface TopicSpec<T> {
  /** "KV event": for warnings. */
  readonly label: string;
  readonly schema: z.ZodType<T>;
  readonly subject: (message: T) => string;
  readonly allSubjects: string;
}

export interface Topic<T> {
  publish(message: T): void;
  subscribe(signal: AbortSignal): AsyncIterable<T>;
}

export function createTopic<T extends object>(
  { nc, isConnected, streams, warnings, queueMax }: TopicParts,
  { label, schema, subject, allSubjects }: TopicSpec<T>,
): Topic<T> {
  function receive(queue: BoundedQueue<T>) {
    return (error: Error | null, received: Msg) => {
      if (error) return warnings.add("connection", `No ${label}s`, error);
      const decoded = decodeMessage(schema, received.data);
      if (decoded.kind === "malformed") {
        return warnings.add(
          "malformed",
          `Left out a ${label} on ${received.subject}: ${decoded.reason}`,
        );
      }
      const { message } = decoded;
      if (subject(message) !== received.subject) {
        return warnings.add(
          "malformed",
          `Left out a ${label} on ${received.subject}: it belongs on ${
            subject(message)
          }`,
        );
      }
      if (received.headers) rememberTrace(message, asBag(received.headers));
      queue.push(message);
    };
  }

  return {
    publish(message) {
      // The client would keep messages without bound until NATS is back, and they would be stale.
      if (!isConnected()) {
        return warnings.add("dropped", `Dropped a ${label}: NATS is away`);
      }
      try {
        nc.publish(subject(message), encodeMessage(message), {
          headers: traceHeaders(),
        });
      } catch (error) {
        // Too large, or the connection closed this instant; numbers show the gap.
        warnings.add("dropped", `Dropped a ${label}`, error);
      }
    },
    subscribe: (signal) =>
      streams.add(signal, (onEnd) => {
        const queue: BoundedQueue<T> = new BoundedQueue<T>({
          capacity: queueMax,
          onDrop: () => warnings.add("dropped", `A reader of ${label} is slow`),
          onEnd() {
            subscription?.unsubscribe();
            onEnd();
          },
        });
        const subscription = subscribe(nc, allSubjects, receive(queue));
        return queue;
      }),
  };
}

import {
  createInbox,
  headers,
  type Msg,
  type NatsConnection,
  nuid,
} from "@nats-io/transport-node";
import { context } from "@opentelemetry/api";
import type { Clock } from "./clock.ts";
import { decodeMessage, encodeMessage, schemas } from "./messages.ts";
import { asBag, traceHeaders } from "./nats_headers.ts";
import { subscribe } from "./nats_subscribe.ts";
import { subjects } from "./subjects.ts";
import { extractTrace } from "./trace_context.ts";
import type { KvDump } from "./types.ts";
import type { Warnings } from "./warnings.ts";

/**
 * A dump of 100,000 blocks is 3.5 MB of JSON where NATS carries 1 MB a message, so it
 * is sent in parts. Each part says its place, the number of parts and the dump
 * it is of; the parts of one sender arrive in order.
 */
const partHeader = "Quetzal-Part";

/** 256 parts of 512 KiB hold 3.8 million hashes: nobody honest sends more. */
const partsMax = 256;
const partBytesMax = 512 * 1_024;

/** Room of a message for the headers beside the payload. */
const headerBytes = 4_096;

export interface KvDumpParts {
  readonly nc: NatsConnection;
  readonly warnings: Warnings;
}

export function serveKvDump(
  { nc, warnings }: KvDumpParts,
  workerId: string,
  dump: () => KvDump,
): Disposable {
  function answer(error: Error | null, request: Msg): void {
    if (error) return warnings.add("connection", "No KV dump requests", error);
    if (!request.reply) return;
    const asked = request.headers
      ? extractTrace(asBag(request.headers))
      : context.active();
    try {
      context.with(asked, () => sendParts(nc, request, encodeMessage(dump())));
    } catch (error) {
      // The reader gets no dump and asks again at the next gap.
      warnings.add("dropped", `Could not answer with a KV dump`, error);
    }
  }

  const subscription = subscribe(nc, subjects.kvDump(workerId), answer);
  return { [Symbol.dispose]: () => subscription?.unsubscribe() };
}

function sendParts(nc: NatsConnection, request: Msg, data: Uint8Array): void {
  const payloadMax = (nc.info?.max_payload ?? 1 << 20) - headerBytes;
  const partBytes = Math.max(1, Math.min(partBytesMax, payloadMax));
  const total = Math.ceil(data.length / partBytes);
  const dumpId = nuid.next();
  for (let index = 0; index < total; index++) {
    const part = headers();
    part.set(partHeader, `${dumpId} ${index} ${total}`);
    const payload = data.subarray(index * partBytes, (index + 1) * partBytes);
    request.respond(payload, { headers: part });
  }
}

export interface RequestKvDumpOptions {
  readonly workerId: string;
  readonly signal: AbortSignal;
  readonly clock: Clock;
  /** For the whole answer. */
  readonly timeoutMs: number;
}

/** `undefined` when nobody serves it, it does not arrive in time, or it is not usable. */
export function requestKvDump(
  { nc, warnings }: KvDumpParts,
  { workerId, signal, clock, timeoutMs }: RequestKvDumpOptions,
): Promise<KvDump | undefined> {
  if (signal.aborted) return Promise.resolve(undefined);
  return new Promise((resolve) => {
    const assembly = new PartAssembly();
    const inbox = createInbox();
    const subscription = subscribe(nc, inbox, receive);
    const timer = clock.setTimer(timeoutMs, () => settle(undefined));
    const onAbort = () => settle(undefined);
    signal.addEventListener("abort", onAbort, { once: true });

    function settle(answer: KvDump | undefined): void {
      subscription?.unsubscribe();
      timer[Symbol.dispose]();
      signal.removeEventListener("abort", onAbort);
      resolve(answer);
    }

    function receive(error: Error | null, message: Msg): void {
      // 503: the server says that nobody serves the subject.
      if (error || message.headers?.code === 503) return settle(undefined);
      const state = assembly.add(message);
      if (state === "incomplete") return;
      const decoded = state === "broken"
        ? { kind: "malformed" as const, reason: "its parts do not fit" }
        : decodeMessage(schemas.kvDump, assembly.data());
      if (decoded.kind === "message" && decoded.message.workerId === workerId) {
        return settle(decoded.message);
      }
      const reason = decoded.kind === "malformed"
        ? decoded.reason
        : `it is of ${decoded.message.workerId}`;
      warnings.add("malformed", `Left out a KV dump of ${workerId}: ${reason}`);
      settle(undefined);
    }

    try {
      nc.publish(subjects.kvDump(workerId), "", {
        reply: inbox,
        headers: traceHeaders(),
      });
    } catch {
      // Closed between the look above and here: the same as nobody answering.
      settle(undefined);
    }
  });
}

/** Collects the parts of the first dump that answers. */
class PartAssembly {
  readonly #parts: Uint8Array[] = [];
  #dumpId: string | undefined;
  #total = 0;

  add(message: Msg): "incomplete" | "complete" | "broken" {
    const match = /^(\S+) (\d+) (\d+)$/.exec(
      message.headers?.get(partHeader) ?? "",
    );
    if (!match) return "broken";
    const [dumpId, index, total] = [match[1], +match[2], +match[3]];
    this.#dumpId ??= dumpId;
    // Two processes with the same id both answer: one is enough.
    if (dumpId !== this.#dumpId) return "incomplete";
    this.#total ||= total;
    const fits = total === this.#total && total >= 1 && total <= partsMax &&
      index === this.#parts.length;
    if (!fits) return "broken";
    this.#parts.push(message.data);
    return this.#parts.length === total ? "complete" : "incomplete";
  }

  data(): Uint8Array {
    return Buffer.concat(this.#parts);
  }
}

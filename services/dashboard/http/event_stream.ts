/** Bytes waiting for a reader before it is cut off; it reconnects and gets the present state. */
const waitingMax = 4 << 20;

export interface EventStream {
  readonly response: Response;
  send(event: string, data: unknown): void;
  close(): void;
  readonly closed: boolean;
}

/** One `text/event-stream`; `onClose` is called once, whoever ends it. */
export function openEventStream(onClose: () => void): EventStream {
  const encoder = new TextEncoder();
  let controller: ReadableStreamDefaultController<Uint8Array> | undefined;
  let closed = false;

  function end(): void {
    if (closed) return;
    closed = true;
    onClose();
  }
  const body = new ReadableStream<Uint8Array>({
    start(started) {
      controller = started;
      // Browsers come back after this long.
      controller.enqueue(encoder.encode("retry: 1000\n\n"));
    },
    cancel: end,
  }, {
    highWaterMark: waitingMax,
    size: (chunk) => chunk?.byteLength ?? 0,
  });

  const stream: EventStream = {
    response: new Response(body, {
      headers: {
        "content-type": "text/event-stream; charset=utf-8",
        "cache-control": "no-store",
        // Tells nginx not to gather events.
        "x-accel-buffering": "no",
      },
    }),
    send(event, data) {
      if (closed || controller === undefined) return;
      const text = `event: ${event}\ndata: ${JSON.stringify(data)}\n\n`;
      controller.enqueue(encoder.encode(text));
      if ((controller.desiredSize ?? 0) <= 0) stream.close();
    },
    close() {
      if (closed) return;
      end();
      controller?.close();
    },
    get closed() {
      return closed;
    },
  };
  return stream;
}

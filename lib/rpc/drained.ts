/** The part of a writable stream that waiting needs. */
interface Drainable {
  on(event: string, listener: () => void): unknown;
  off(event: string, listener: () => void): unknown;
}

/**
 * Makes the wait for a stream that is full: all who wait share one promise. It
 * resolves too when the stream is over, as nothing written then matters.
 */
export function drained(stream: Drainable): () => Promise<void> {
  const events = ["drain", "cancelled", "close", "error"];
  let waiting: Promise<void> | undefined;
  return () =>
    waiting ??= new Promise((resolve) => {
      const done = () => {
        for (const event of events) stream.off(event, done);
        waiting = undefined;
        resolve();
      };
      for (const event of events) stream.on(event, done);
    });
}

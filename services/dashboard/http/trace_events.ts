import type { TraceDetail } from "../api_types.ts";
import type { Collector } from "../collector.ts";
import { type EventStream, openEventStream } from "./event_stream.ts";

const everyMs = 250;
const pingMs = 15_000;
/** After the last change of a complete trace; late spans come within seconds. */
const lingerMs = 30_000;
/** A trace that never comes: the request was not recorded. */
const waitMs = 600_000;
const streamsMax = 128;

/** Shows one trace as it builds up. */
export class TraceEvents implements Disposable {
  readonly #streams = new Set<EventStream>();
  readonly #collector: Collector;

  constructor(collector: Collector) {
    this.#collector = collector;
  }

  /** `undefined`: too many are open. */
  connect(
    traceId: string,
    describe: () => TraceDetail | undefined,
  ): Response | undefined {
    if (this.#streams.size >= streamsMax) return undefined;
    let dirty = true;
    let isOpen = true;
    let changedMs = Date.now();
    const listening = this.#collector.listen({
      touched: (id) => dirty ||= id === traceId,
      changed: (summaries) =>
        dirty ||= summaries.some((summary) => summary.traceId === traceId),
    });
    const beat = setInterval(() => {
      const now = Date.now();
      if (now - changedMs > (isOpen ? waitMs : lingerMs)) stream.close();
      if (!dirty) return;
      dirty = false;
      const detail = describe();
      if (detail === undefined) return;
      changedMs = now;
      isOpen = detail.summary.open;
      stream.send("trace", detail);
    }, everyMs);
    const ping = setInterval(
      () => stream.send("ping", { atMs: Date.now() }),
      pingMs,
    );
    const stream = openEventStream(() => {
      listening[Symbol.dispose]();
      clearInterval(beat);
      clearInterval(ping);
      this.#streams.delete(stream);
    });
    this.#streams.add(stream);
    return stream.response;
  }

  [Symbol.dispose](): void {
    for (const stream of this.#streams) stream.close();
  }
}

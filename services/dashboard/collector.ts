import type { Clock } from "../../lib/bus/mod.ts";
import type { IngestCounts, Span, TraceSummary } from "./api_types.ts";
import type { OtlpBatch, ReceivedSpan } from "./otlp/mod.ts";
import type { RetentionLimits, StoredTrace, TraceStore } from "./store/mod.ts";
import { Assembler, type PendingTrace } from "./trace/assembler.ts";
import { stripContent } from "./trace/content.ts";
import { summarize } from "./trace/summarize.ts";
import type { TailSampling } from "./trace/tail_sampling.ts";

export interface CollectorOptions {
  readonly store: TraceStore;
  readonly assembler: Assembler;
  readonly sampling: TailSampling;
  readonly retention: RetentionLimits;
  /** When off, content is taken out before anything is kept. */
  readonly captureContent: boolean;
  readonly spansPerTraceMax: number;
  readonly clock: Clock;
  readonly nowMs: () => number;
  readonly onError: (what: string, reason: unknown) => void;
  /** The event loop stood still for it: a slow disk, or too much at once. */
  readonly onSlow?: (what: string, ms: number) => void;
}

/** Told about traces as they come in and as they settle. */
export interface CollectorListener {
  /** New or changed, at most a few hundred at a time. */
  changed?(summaries: readonly TraceSummary[]): void;
  /** Complete, whether kept or not. */
  settled?(traceId: string, spans: readonly Span[]): void;
  /** Some spans of this trace have come. */
  touched?(traceId: string): void;
  /** Nobody reads what `changed()` would tell now; read always unless set. */
  isIdle?(): boolean;
}

/** Late spans of a trace that was not kept would bring it back as a fragment. */
const droppedMax = 50_000;
const tickMs = 250;
/** Traces looked at for a list; in a flood the rest is there some seconds later. */
const pendingMax = 200;
const slowMs = 500;
/** Traces written in one go: the event loop stands still for about 20 ms. */
const writeMax = 200;

/**
 * The way of a span: gathered by trace, judged when its trace is complete, stored or let go.
 *
 * Memory is bounded by the assembler; a store that fails costs the traces of that moment and is
 * told once per outage, never the process.
 */
export class Collector implements AsyncDisposable {
  readonly #options: CollectorOptions;
  readonly #listeners = new Set<CollectorListener>();
  readonly #changed = new Set<string>();
  readonly #dropped = new Set<string>();
  readonly #counts = {
    requests: 0,
    spans: 0,
    bytes: 0,
    sampledOut: 0,
    rejected: 0,
    dropped: 0,
  };
  #timer: Disposable | undefined;
  #failing = false;
  #prunedAtMs = 0;

  constructor(options: CollectorOptions) {
    this.#options = options;
    this.#arm();
  }

  get counts(): IngestCounts {
    return { ...this.#counts };
  }

  listen(listener: CollectorListener): Disposable {
    this.#listeners.add(listener);
    return { [Symbol.dispose]: () => this.#listeners.delete(listener) };
  }

  take(batch: OtlpBatch, bytes: number): void {
    const nowMs = this.#options.nowMs();
    this.#counts.requests++;
    this.#counts.bytes += bytes;
    this.#counts.rejected += batch.rejected;
    for (const received of batch.spans) this.#takeSpan(received, nowMs);
  }

  /** What is known of a trace, stored or still coming in. */
  get(traceId: string): StoredTrace | undefined {
    const { store, assembler } = this.#options;
    const stored = store.get(traceId);
    const pending = assembler.get(traceId);
    if (pending === undefined) return stored;
    const fresh = toStored(pending);
    if (stored === undefined) return fresh;
    return {
      traceId,
      spans: unique([...stored.spans, ...fresh.spans]),
      spansLeftOut: stored.spansLeftOut + fresh.spansLeftOut,
    };
  }

  /** Traces that are still coming in, newest first. */
  *pending(): Iterable<StoredTrace> {
    const all = [...this.#options.assembler.values()];
    for (const trace of all.slice(-pendingMax).reverse()) yield toStored(trace);
  }

  /** Writes what is complete; called by its own timer, and by tests. */
  tick(): void {
    const { assembler, nowMs } = this.#options;
    this.#announce();
    const settled = assembler.settled(nowMs());
    for (let at = 0; at < settled.length; at += writeMax) {
      this.#settle(settled.slice(at, at + writeMax));
    }
    this.#prune();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#timer?.[Symbol.dispose]();
    this.#timer = undefined;
    this.#settle(this.#options.assembler.takeAll());
    await Promise.resolve();
  }

  #arm(): void {
    this.#timer = this.#options.clock.setTimer(tickMs, () => {
      this.tick();
      if (this.#timer !== undefined) this.#arm();
    });
  }

  #takeSpan(received: ReceivedSpan, nowMs: number): void {
    const { assembler, captureContent } = this.#options;
    const { traceId } = received;
    this.#counts.spans++;
    if (this.#dropped.has(traceId)) {
      this.#counts.sampledOut++;
      return;
    }
    const span = captureContent ? received.span : stripContent(received.span);
    if (!assembler.add({ ...received, span }, nowMs)) this.#counts.dropped++;
    this.#changed.add(traceId);
  }

  #announce(): void {
    if (this.#changed.size === 0) return;
    const { assembler } = this.#options;
    const isRead = [...this.#listeners].some((listener) =>
      listener.changed !== undefined && !listener.isIdle?.()
    );
    if (isRead) {
      const summaries: TraceSummary[] = [];
      for (const traceId of this.#changed) {
        const pending = assembler.get(traceId);
        for (const listener of this.#listeners) listener.touched?.(traceId);
        // A flood is not followed line by line.
        if (pending === undefined || summaries.length >= writeMax) continue;
        summaries.push(summarize(traceId, toStored(pending).spans));
      }
      this.#tell(summaries);
    }
    this.#changed.clear();
  }

  #settle(traces: readonly PendingTrace[]): void {
    const stored = traces.map(toStored);
    const kept = stored.filter((trace) => this.#isKept(trace));
    try {
      const summaries = this.#timed(
        "store traces",
        () => this.#options.store.put(kept),
      );
      this.#failing = false;
      this.#tell(summaries);
    } catch (reason) {
      this.#counts.dropped += kept.reduce(
        (sum, { spans }) => sum + spans.length,
        0,
      );
      if (!this.#failing) this.#options.onError("store traces", reason);
      this.#failing = true;
    }
    for (const { traceId, spans } of stored) {
      for (const listener of this.#listeners) {
        listener.settled?.(traceId, spans);
      }
    }
  }

  #isKept(trace: StoredTrace): boolean {
    const { store, sampling, nowMs } = this.#options;
    const { traceId, spans } = trace;
    const summary = summarize(traceId, spans);
    // What belongs to a stored trace joins it.
    if (sampling.keep(summary, nowMs()) !== undefined || store.has(traceId)) {
      return true;
    }
    this.#counts.sampledOut += spans.length;
    this.#dropped.add(traceId);
    if (this.#dropped.size > droppedMax) {
      for (const oldest of this.#dropped) {
        this.#dropped.delete(oldest);
        break;
      }
    }
    return false;
  }

  #timed<T>(what: string, work: () => T): T {
    const startMs = performance.now();
    const result = work();
    const ms = Math.round(performance.now() - startMs);
    if (ms > slowMs) this.#options.onSlow?.(what, ms);
    return result;
  }

  #tell(summaries: readonly TraceSummary[]): void {
    if (summaries.length === 0) return;
    for (const listener of this.#listeners) listener.changed?.(summaries);
  }

  #prune(): void {
    const { store, retention, nowMs, onError } = this.#options;
    const now = nowMs();
    if (now - this.#prunedAtMs < 1_000) return;
    this.#prunedAtMs = now;
    try {
      this.#timed("prune the trace store", () => store.prune(retention, now));
    } catch (reason) {
      if (!this.#failing) onError("prune the trace store", reason);
      this.#failing = true;
    }
  }
}

function toStored({ traceId, texts, leftOut }: PendingTrace): StoredTrace {
  const json = `[${[...texts.values()].join(",")}]`;
  return { traceId, spans: JSON.parse(json), spansLeftOut: leftOut, json };
}

/** Spans of a stored trace may have come again since. */
function unique(spans: readonly Span[]): readonly Span[] {
  return [...new Map(spans.map((span) => [span.spanId, span])).values()];
}

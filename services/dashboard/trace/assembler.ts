import type { ReceivedSpan } from "../otlp/mod.ts";

export interface AssemblerOptions {
  /** Quiet time after which a trace with a root is complete; services send every second. */
  readonly settleMs: number;
  /** The same for a trace whose root has not come. */
  readonly orphanMs: number;
  /** Beyond, the oldest are settled as they are. */
  readonly tracesMax: number;
  /** Of JSON, UTF-16 units. */
  readonly bytesMax: number;
  readonly spansPerTraceMax: number;
}

export const assemblerDefaults: AssemblerOptions = {
  settleMs: 1_500,
  orphanMs: 15_000,
  tracesMax: 20_000,
  bytesMax: 24 << 20,
  spansPerTraceMax: 4_000,
};

/** A trace whose spans are still coming in. */
export interface PendingTrace {
  readonly traceId: string;
  /**
   * Each span as JSON, once per id. A text takes a fifth of the memory of its objects, and thousands
   * wait here for seconds; written down it is this text again.
   */
  readonly texts: Map<string, string>;
  hasRoot: boolean;
  bytes: number;
  leftOut: number;
  readonly firstMs: number;
  lastMs: number;
}

/** A trace of some hours is written down now and then, so that it is not lost with us. */
const openMsMax = 60_000;

/**
 * Gathers spans by trace until nothing more is expected.
 *
 * Spans of one request arrive from several processes, up to some seconds apart. A trace that was
 * settled too early is no harm: the store merges what comes later.
 */
export class Assembler {
  readonly #options: AssemblerOptions;
  /** In order of the first span. */
  readonly #pending = new Map<string, PendingTrace>();
  #bytes = 0;

  constructor(options: AssemblerOptions) {
    this.#options = options;
  }

  get size(): number {
    return this.#pending.size;
  }

  get(traceId: string): PendingTrace | undefined {
    return this.#pending.get(traceId);
  }

  values(): Iterable<PendingTrace> {
    return this.#pending.values();
  }

  /** Answers false for a span beyond the limit of its trace. */
  add({ traceId, span }: ReceivedSpan, nowMs: number): boolean {
    let trace = this.#pending.get(traceId);
    if (trace === undefined) {
      trace = {
        traceId,
        texts: new Map(),
        hasRoot: false,
        bytes: 0,
        leftOut: 0,
        firstMs: nowMs,
        lastMs: nowMs,
      };
      this.#pending.set(traceId, trace);
    }
    trace.lastMs = nowMs;
    if (span.parentSpanId === null || isDoor(span)) trace.hasRoot = true;
    // An exporter that did not hear our answer sends its spans again.
    if (trace.texts.has(span.spanId)) return true;
    if (trace.texts.size >= this.#options.spansPerTraceMax) {
      trace.leftOut++;
      return false;
    }
    const text = JSON.stringify(span);
    trace.texts.set(span.spanId, text);
    trace.bytes += text.length;
    this.#bytes += text.length;
    return true;
  }

  /** Takes out what is complete, and the oldest when there is too much. */
  settled(nowMs: number): PendingTrace[] {
    const { settleMs, orphanMs, tracesMax, bytesMax } = this.#options;
    const out: PendingTrace[] = [];
    let count = this.#pending.size;
    let bytes = this.#bytes;
    for (const trace of this.#pending.values()) {
      const quietMs = nowMs - trace.lastMs;
      const isDone = quietMs >= (trace.hasRoot ? settleMs : orphanMs) ||
        nowMs - trace.firstMs >= openMsMax;
      if (!isDone && count <= tracesMax && bytes <= bytesMax) continue;
      out.push(trace);
      count--;
      bytes -= trace.bytes;
    }
    for (const { traceId } of out) this.#pending.delete(traceId);
    this.#bytes = bytes;
    return out;
  }

  /** Takes everything out, at the end of the process. */
  takeAll(): PendingTrace[] {
    const all = [...this.#pending.values()];
    this.#pending.clear();
    this.#bytes = 0;
    return all;
  }
}

/** The client's own span never comes to us; the router's door is the top then. */
function isDoor({ kind, service }: ReceivedSpan["span"]): boolean {
  return kind === "server" && service === "router";
}

import type { TraceSummary } from "../api_types.ts";

export interface TailSamplingConfig {
  /** Share of ordinary traces that are kept, 0..1. */
  readonly ratio: number;
  /** Ordinary traces kept per second at most, so that a flood does not wash out the days before. */
  readonly tracesPerS: number;
  /** The slowest of each model and minute that are always kept. */
  readonly slowestPerMinute: number;
}

export type KeepReason =
  | "error"
  | "replayed"
  | "slowest"
  | "sampled"
  | undefined;

/**
 * Decides which complete traces are stored.
 *
 * Errors, cancelled and replayed requests and the slowest of each model and minute always are;
 * of the others a share, chosen by trace id so that every dashboard keeps the same ones. The
 * slowest of a minute can only be known at its end, so whatever is among the slowest so far is
 * kept: that is more than asked for by a factor of ln(n), and never one too few.
 */
export class TailSampling {
  readonly #config: TailSamplingConfig;
  readonly #slowest = new Map<string, number[]>();
  #minute = -1;
  #budget: number;
  #budgetAtMs = 0;

  constructor(config: TailSamplingConfig) {
    this.#config = config;
    this.#budget = config.tracesPerS;
  }

  /** Why a trace is kept; `undefined`: it is not. */
  keep(trace: TraceSummary, nowMs: number): KeepReason {
    const isSlow = this.#isAmongSlowest(trace, nowMs);
    if (trace.status !== "ok") return "error";
    if (trace.attempts > 1) return "replayed";
    if (isSlow) return "slowest";
    if (shareOf(trace.traceId) >= this.#config.ratio) return undefined;
    return this.#spend(nowMs) ? "sampled" : undefined;
  }

  #isAmongSlowest({ model, durationMs }: TraceSummary, nowMs: number): boolean {
    const { slowestPerMinute } = this.#config;
    if (slowestPerMinute === 0) return false;
    const minute = Math.floor(nowMs / 60_000);
    if (minute !== this.#minute) {
      this.#minute = minute;
      this.#slowest.clear();
    }
    // Names come from requests; past a thousand they share one list.
    const key = this.#slowest.size < 1_000 || this.#slowest.has(model ?? "")
      ? model ?? ""
      : "\0others";
    const list = this.#slowest.get(key) ?? [];
    this.#slowest.set(key, list);
    if (list.length < slowestPerMinute) {
      list.push(durationMs);
      return true;
    }
    const fastest = list.indexOf(Math.min(...list));
    if (durationMs <= list[fastest]) return false;
    list[fastest] = durationMs;
    return true;
  }

  #spend(nowMs: number): boolean {
    const { tracesPerS } = this.#config;
    const earned = Math.max(0, nowMs - this.#budgetAtMs) / 1_000 * tracesPerS;
    this.#budget = Math.min(tracesPerS, this.#budget + earned);
    this.#budgetAtMs = nowMs;
    if (this.#budget < 1) return false;
    this.#budget--;
    return true;
  }
}

/** 0..1, the same for the same trace everywhere. */
function shareOf(traceId: string): number {
  return parseInt(traceId.slice(-8), 16) / 2 ** 32;
}

import type { TrafficReport } from "../../../lib/bus/mod.ts";
import type { ColdStart, TrafficPoint } from "../api_types.ts";

/** Points of the sparkline, one per second. */
const points = 120;

type Point = { -readonly [K in keyof TrafficPoint]: TrafficPoint[K] };

/** What routers report about one model, second by second. */
export class ModelTraffic {
  readonly #points = new Map<number, Point>();
  /** The last report of each router: what is held and running is theirs. */
  readonly #last = new Map<string, TrafficReport & { seenMs: number }>();
  readonly coldStarts: ColdStart[] = [];
  lastRequestAtMs: number | null = null;
  /** Some decode worker served it once. */
  wasServed = false;

  take(report: TrafficReport, nowMs: number): void {
    this.#last.set(report.routerId, { ...report, seenMs: nowMs });
    const second = Math.floor(nowMs / 1_000);
    const point = this.#points.get(second) ?? emptyPoint(second * 1_000);
    point.arrivals += report.arrivals;
    point.completions += report.completions;
    point.failures += report.failures;
    point.held = this.#sum("held", nowMs);
    point.running = this.#sum("running", nowMs);
    point.promptTokens += report.promptTokens;
    point.outputTokens += report.generatedTokens;
    this.#points.set(second, point);
    this.#forget(second);
    if (report.arrivals > 0) this.lastRequestAtMs = nowMs;
  }

  woken(nowMs: number, held: number): void {
    const open = this.coldStarts.at(-1);
    if (open !== undefined && open.readyAtMs === null) {
      const heldMax = Math.max(open.heldMax, held);
      this.coldStarts[this.coldStarts.length - 1] = { ...open, heldMax };
      return;
    }
    this.coldStarts.push({ wokenAtMs: nowMs, readyAtMs: null, heldMax: held });
    if (this.coldStarts.length > 20) this.coldStarts.shift();
  }

  /** A decode worker serves the model now. */
  served(nowMs: number): void {
    this.wasServed = true;
    const open = this.coldStarts.at(-1);
    if (open === undefined || open.readyAtMs !== null) return;
    this.coldStarts[this.coldStarts.length - 1] = { ...open, readyAtMs: nowMs };
  }

  held(nowMs: number): number {
    return this.#sum("held", nowMs);
  }

  running(nowMs: number): number {
    return this.#sum("running", nowMs);
  }

  /** Per second over the last ten whole ones. */
  rate(
    key: "arrivals" | "failures" | "promptTokens" | "outputTokens",
    nowMs: number,
  ): number {
    const now = Math.floor(nowMs / 1_000);
    let sum = 0;
    for (let second = now - 10; second < now; second++) {
      sum += this.#points.get(second)?.[key] ?? 0;
    }
    return sum / 10;
  }

  series(nowMs: number): TrafficPoint[] {
    const now = Math.floor(nowMs / 1_000);
    return Array.from({ length: points }, (_, i) => {
      const second = now - points + 1 + i;
      return this.#points.get(second) ?? emptyPoint(second * 1_000);
    });
  }

  /** Routers report once a second while there is traffic; silence means none. */
  #sum(key: "held" | "running", nowMs: number): number {
    let sum = 0;
    for (const report of this.#last.values()) {
      if (nowMs - report.seenMs <= 5_000) sum += report[key];
    }
    return sum;
  }

  #forget(second: number): void {
    for (const old of this.#points.keys()) {
      if (old > second - points) break;
      this.#points.delete(old);
    }
    if (this.#last.size <= 1_000) return;
    for (const routerId of this.#last.keys()) {
      this.#last.delete(routerId);
      break;
    }
  }
}

function emptyPoint(atMs: number): Point {
  return {
    atMs,
    arrivals: 0,
    completions: 0,
    failures: 0,
    held: 0,
    running: 0,
    promptTokens: 0,
    outputTokens: 0,
  };
}

import type { TrafficReport, WakeMessage } from "../../../lib/bus/types.ts";

/** What a router last said is forgotten after this long; they repeat it every second. */
const reportLifeMs = 3_500;

interface RouterWord {
  readonly held: number;
  readonly running: number;
  readonly heardAtMs: number;
}

/**
 * What routers say of one model.
 *
 * Arrivals add up until they are taken; held and running are each router's last
 * word, for as long as a living router would not have repeated it. Times are ours:
 * routers' clocks are not trusted.
 */
export class ModelTraffic {
  readonly #words = new Map<string, RouterWord>();
  #arrivals = 0;

  report({ routerId, held, running, arrivals }: TrafficReport, nowMs: number) {
    this.#words.set(routerId, { held, running, heardAtMs: nowMs });
    this.#arrivals += arrivals;
  }

  wake({ routerId, held }: WakeMessage, nowMs: number) {
    const running = this.#words.get(routerId)?.running ?? 0;
    this.#words.set(routerId, {
      held: Math.max(1, held),
      running,
      heardAtMs: nowMs,
    });
  }

  /** Requests that wait in routers because no worker serves the model. */
  held(nowMs: number): number {
    return this.#sum((word) => word.held, nowMs);
  }

  /** Requests that routers have at workers. */
  running(nowMs: number): number {
    return this.#sum((word) => word.running, nowMs);
  }

  /** Requests that came since the last call. */
  takeArrivals(): number {
    const arrivals = this.#arrivals;
    this.#arrivals = 0;
    return arrivals;
  }

  get arrivals(): number {
    return this.#arrivals;
  }

  #sum(of: (word: RouterWord) => number, nowMs: number): number {
    let sum = 0;
    for (const [routerId, word] of this.#words) {
      if (nowMs - word.heardAtMs > reportLifeMs) this.#words.delete(routerId);
      else sum += of(word);
    }
    return sum;
  }
}

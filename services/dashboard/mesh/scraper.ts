import type { WorkerMetricsState } from "../api_types.ts";
import { parsePrometheus, type Samples } from "./prometheus_text.ts";

export interface ScraperOptions {
  readonly everyMs: number;
  readonly fetchText: (url: string, signal: AbortSignal) => Promise<string>;
  readonly nowMs: () => number;
}

interface Target {
  readonly address: string;
  atMs: number;
  before: Samples | undefined;
  beforeMs: number;
  state: WorkerMetricsState | null;
}

/** Larger answers are not from a worker of ours. */
const bytesMax = 16 << 20;

/** GET with a bound on time (by the signal) and size. */
export async function fetchText(
  url: string,
  signal: AbortSignal,
): Promise<string> {
  const response = await fetch(url, { signal, redirect: "error" });
  if (!response.ok || response.body === null) {
    await response.body?.cancel();
    throw new Error(`HTTP ${response.status}`);
  }
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of response.body) {
    bytes += chunk.byteLength;
    if (bytes > bytesMax) throw new Error(`more than ${bytesMax} bytes`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString();
}

/** Reads /metrics of every worker and turns counters into rates. */
export class Scraper implements Disposable {
  readonly #options: ScraperOptions;
  readonly #targets = new Map<string, Target>();
  readonly #timer: ReturnType<typeof setInterval>;
  #busy = false;

  constructor(options: ScraperOptions) {
    this.#options = options;
    this.#timer = setInterval(() => void this.scrape(), options.everyMs);
  }

  /** Which workers there are now: id and address of /metrics. */
  follow(addresses: ReadonlyMap<string, string>): void {
    for (const [workerId, { address }] of this.#targets) {
      if (addresses.get(workerId) !== address) this.#targets.delete(workerId);
    }
    for (const [workerId, address] of addresses) {
      if (this.#targets.has(workerId)) continue;
      this.#targets.set(workerId, {
        address,
        atMs: 0,
        before: undefined,
        beforeMs: 0,
        state: null,
      });
    }
  }

  get(workerId: string): WorkerMetricsState | null {
    return this.#targets.get(workerId)?.state ?? null;
  }

  async scrape(): Promise<void> {
    // A worker that hangs must not pile up requests.
    if (this.#busy) return;
    this.#busy = true;
    try {
      await Promise.all([...this.#targets.values()].map((t) => this.#read(t)));
    } finally {
      this.#busy = false;
    }
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
    this.#targets.clear();
  }

  async #read(target: Target): Promise<void> {
    const { fetchText, nowMs, everyMs } = this.#options;
    try {
      const signal = AbortSignal.timeout(Math.min(2_000, everyMs));
      const text = await fetchText(`http://${target.address}/metrics`, signal);
      const samples = parsePrometheus(text);
      const now = nowMs();
      target.state = describe(samples, target, now);
      target.before = samples;
      target.beforeMs = now;
    } catch {
      // The page says that the numbers are old; the worker's own record says more.
      if (target.state !== null) {
        target.state = { ...target.state, stale: true };
      }
    }
  }
}

function describe(
  now: Samples,
  { before, beforeMs }: Target,
  nowMs: number,
): WorkerMetricsState {
  const seconds = (nowMs - beforeMs) / 1_000;
  const delta = (name: string) => {
    const value = now.sum(name);
    const old = before?.sum(name);
    // A counter that fell belongs to a new process.
    return value === undefined || old === undefined || value < old
      ? undefined
      : value - old;
  };
  const ratio = (above: number | undefined, below: number | undefined) =>
    above === undefined || below === undefined || below === 0
      ? null
      : above / below;
  const steps = delta("quetzal:step_time_seconds_count");
  const stepS = ratio(delta("quetzal:step_time_seconds_sum"), steps);
  const kvBytes = delta("quetzal:kv_transfer_bytes_total");
  return {
    scrapedAtMs: nowMs,
    stale: false,
    stepMsMean: stepS === null ? null : stepS * 1_000,
    batchSizeMean: ratio(delta("quetzal:generation_tokens_total"), steps),
    prefixHitShare: ratio(
      now.sum("quetzal:prefix_cache_hits_total"),
      now.sum("quetzal:prefix_cache_queries_total"),
    ),
    preemptionsTotal: now.sum("quetzal:num_preemptions_total") ?? null,
    kvBytesPerS: kvBytes === undefined ? null : kvBytes / seconds,
    kvErrorsTotal: now.sum("quetzal:kv_transfer_errors_total") ?? null,
    roofShare: now.sum("quetzal:roof_share") ?? null,
    residentBytes: now.sum("process_resident_memory_bytes") ?? null,
  };
}

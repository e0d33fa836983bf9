import {
  type ArrivalSample,
  arrivalSamplesMax,
  type TrafficReport,
} from "../../../lib/bus/types.ts";
import { Code, type MeshError } from "../../../lib/errors/mesh_error.ts";

export interface TrafficMeterOptions {
  readonly routerId: string;
  /** Requests waiting for a worker now. */
  readonly heldCount: (model: string) => number;
  readonly nowMs: () => number;
}

/** One sequence being counted. */
export interface TrafficEntry {
  end(failure: MeshError | undefined, generatedTokens: number): void;
}

/** Counts what happens per model between two reports. */
export class TrafficMeter {
  readonly #options: TrafficMeterOptions;
  readonly #models = new Map<string, Counts>();
  readonly #samples = new Map<string, ArrivalSample[]>();
  #sinceMs: number;

  constructor(options: TrafficMeterOptions) {
    this.#options = options;
    this.#sinceMs = options.nowMs();
  }

  begin(model: string, promptTokens: number): TrafficEntry {
    const counts = this.#counts(model);
    counts.arrivals++;
    counts.promptTokens += promptTokens;
    counts.running++;
    this.#sample(model, promptTokens);
    return {
      end(failure, generatedTokens) {
        counts.running--;
        counts.generatedTokens += generatedTokens;
        // A client that left is neither served nor failed by us.
        if (failure === undefined) counts.completions++;
        else if (failure.code !== Code.cancelled) counts.failures++;
      },
    };
  }

  /** Reports of the models with any activity since the last call; starts anew. */
  take(): TrafficReport[] {
    const { routerId, heldCount, nowMs } = this.#options;
    const atMs = nowMs();
    const windowMs = atMs - this.#sinceMs;
    this.#sinceMs = atMs;
    const reports: TrafficReport[] = [];
    for (const [model, counts] of this.#models) {
      const held = heldCount(model);
      const { running, ...counted } = counts;
      const active = held > 0 ||
        Object.values(counts).some((value) => value > 0);
      if (!active) continue;
      const samples = this.#samples.get(model);
      reports.push({
        routerId,
        model,
        atMs,
        windowMs,
        ...counted,
        held,
        // Held ones count as running here until they end; the report tells them apart.
        running: Math.max(0, running - held),
        ...(samples && { samples }),
      });
      Object.assign(counts, { ...zero, running });
    }
    this.#samples.clear();
    return reports;
  }

  #sample(model: string, promptTokens: number): void {
    let samples = this.#samples.get(model);
    if (samples === undefined) this.#samples.set(model, samples = []);
    if (samples.length >= arrivalSamplesMax) return;
    const offsetMs = Math.max(0, this.#options.nowMs() - this.#sinceMs);
    samples.push({ offsetMs, promptTokens });
  }

  #counts(model: string): Counts {
    let counts = this.#models.get(model);
    if (counts === undefined) {
      counts = { ...zero };
      this.#models.set(model, counts);
    }
    return counts;
  }
}

const zero = {
  arrivals: 0,
  completions: 0,
  failures: 0,
  promptTokens: 0,
  generatedTokens: 0,
  running: 0,
};

type Counts = typeof zero;

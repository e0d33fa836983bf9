/** What a simulation counts, and the result it prints. */
import { createLatencyHistogram } from "./latency_histogram.ts";

export interface SimulationResult {
  readonly policy: string;
  readonly requests: number;
  /** Share of all requests, failed ones included, with a first token in time. */
  readonly slo_attainment: number;
  readonly ttft_s: {
    readonly p50: number;
    readonly p95: number;
    readonly p99: number;
  };
  /** GPUs held, from the pod's creation until it is gone. */
  readonly gpu_hours: number;
  /** Pods held; the same, as a pod has one GPU. */
  readonly replica_hours: number;
  /** Decisions that changed a number of pods. */
  readonly scale_events: number;
  /** Changes of direction among them. */
  readonly reversals: number;
  /** Times requests were held until a model was loaded. */
  readonly cold_starts: number;
  /** Seconds with more requests than slots, summed over models. */
  readonly overloaded_s: number;
}

/** Evenly spaced samples for plots. */
export interface Timeline {
  readonly stepMs: number;
  readonly gpus: number[];
  readonly inFlight: number[];
  /** Requests that ended in the step, and how many of them were in time. */
  readonly ended: number[];
  readonly inTime: number[];
  /** Ready replicas per model and step. */
  readonly models: { readonly name: string; readonly ready: number[] }[];
}

const stepCount = 300;

export class Measures {
  requests = 0;
  failed = 0;
  inTime = 0;
  coldStarts = 0;
  overloadedMs = 0;
  scaleEvents = 0;
  reversals = 0;
  gpuMs = 0;
  readonly ttft = createLatencyHistogram();
  readonly timeline: Timeline;
  #gpus = 0;
  #gpusSinceMs = 0;
  #direction = new Map<number, number>();

  constructor(
    readonly durationMs: number,
    readonly ttftTargetMs: number,
    models: readonly string[],
  ) {
    const zeros = () => new Array<number>(stepCount).fill(0);
    this.timeline = {
      stepMs: Math.max(1, durationMs / stepCount),
      gpus: zeros(),
      inFlight: zeros(),
      ended: zeros(),
      inTime: zeros(),
      models: models.map((name) => ({ name, ready: zeros() })),
    };
  }

  firstToken(arrivedMs: number, nowMs: number): void {
    const ttftMs = nowMs - arrivedMs;
    this.ttft.add(ttftMs);
    const inTime = ttftMs <= this.ttftTargetMs;
    if (inTime) this.inTime++;
    this.#end(arrivedMs, inTime);
  }

  fail(arrivedMs: number): void {
    this.failed++;
    this.#end(arrivedMs, false);
  }

  /** GPUs taken or, negative, given back. */
  gpuTaken(nowMs: number, change: number): void {
    this.#addGpuTime(nowMs);
    this.#gpus += change;
  }

  /** A unit (model, or the pool as -1) was scaled from one count to another. */
  scaled(unit: number, before: number, after: number): void {
    if (before === after) return;
    this.scaleEvents++;
    const direction = Math.sign(after - before);
    const last = this.#direction.get(unit);
    if (last !== undefined && last !== direction) this.reversals++;
    this.#direction.set(unit, direction);
  }

  result(policy: string): SimulationResult {
    this.#addGpuTime(this.durationMs);
    const round = (value: number, digits: number) =>
      Number(value.toFixed(digits));
    const hours = round(this.gpuMs / 3_600_000, 3);
    const seconds = (quantile: number) =>
      round(this.ttft.quantileMs(quantile) / 1000, 4);
    return {
      policy,
      requests: this.requests,
      slo_attainment: this.requests === 0
        ? 1
        : round(this.inTime / this.requests, 5),
      ttft_s: { p50: seconds(0.5), p95: seconds(0.95), p99: seconds(0.99) },
      gpu_hours: hours,
      replica_hours: hours,
      scale_events: this.scaleEvents,
      reversals: this.reversals,
      cold_starts: this.coldStarts,
      overloaded_s: round(this.overloadedMs / 1000, 1),
    };
  }

  #end(arrivedMs: number, inTime: boolean): void {
    const step = this.stepAt(arrivedMs);
    this.timeline.ended[step]++;
    if (inTime) this.timeline.inTime[step]++;
  }

  stepAt(atMs: number): number {
    const step = Math.floor(atMs / this.timeline.stepMs);
    return Math.max(0, Math.min(stepCount - 1, step));
  }

  #addGpuTime(nowMs: number): void {
    const untilMs = Math.min(nowMs, this.durationMs);
    if (untilMs <= this.#gpusSinceMs) return;
    this.gpuMs += this.#gpus * (untilMs - this.#gpusSinceMs);
    this.#gpusSinceMs = untilMs;
  }
}

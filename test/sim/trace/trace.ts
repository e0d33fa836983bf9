/** A trace as the simulator reads it: requests in order of time. */
export interface Trace {
  readonly name: string;
  readonly models: readonly string[];
  readonly durationMs: number;
  /** From the start each time; equal seeds give equal requests. */
  requests(): Iterator<TraceRequest>;
}

export interface TraceRequest {
  readonly atMs: number;
  /** Index into `models`. */
  readonly model: number;
  /** Absent where the trace has no lengths: the profile's distribution is drawn from. */
  readonly promptTokens: number | undefined;
  readonly outputTokens: number | undefined;
}

export interface TraceOptions {
  readonly seed: string;
  /** Share of the recorded requests that is kept; ServeGen only. */
  readonly rateScale: number;
  /** How ServeGen's burstiness follows the scale; see `servegen.ts`. */
  readonly arrivals: "thin" | "stretch";
  /** Stop after this much of the trace. */
  readonly limitMs: number;
}

/** Requests that are all in memory, cut at the limit. */
export function listTrace(
  name: string,
  models: readonly string[],
  requests: readonly TraceRequest[],
  limitMs: number,
): Trace {
  const last = requests.length ? requests[requests.length - 1].atMs : 0;
  return {
    name,
    models,
    durationMs: Math.min(limitMs, Math.ceil(last / 1000) * 1000),
    *requests() {
      for (const request of requests) {
        if (request.atMs >= limitMs) return;
        yield request;
      }
    },
  };
}

/** Made-up answers of the dashboard's API, for what a live mesh does not show on demand. */
import type {
  MeshState,
  ModelList,
  Session,
  Span,
  SpeculationStats,
  TokenStrip,
  TraceDetail,
  TraceStats,
  TraceSummary,
} from "../../../services/dashboard/api_types.ts";

export interface TraceOptions {
  /** Distinguishes traces; also seeds their numbers. */
  readonly index?: number;
  readonly tokens?: number;
  /** Stands in every field that holds other people's text. */
  readonly foreign?: string;
  readonly nowMs?: number;
}

export function makeSession(more: Partial<Session> = {}): Session {
  return {
    authRequired: false,
    authenticated: true,
    captureContent: true,
    playground: true,
    version: "0.0.0",
    nowMs: Date.now(),
    ...more,
  };
}

export function makeSummary(
  { index = 0, tokens = 40, foreign, nowMs = Date.now() }: TraceOptions = {},
): TraceSummary {
  const status = index % 11 === 7
    ? "error"
    : index % 17 === 5
    ? "cancelled"
    : "ok";
  const ttftMs = 38 + (index * 37) % 90;
  const queueMs = index % 5 === 0 ? 18 + index % 13 : 1.2;
  return {
    traceId: traceIdOf(index),
    requestId: `req-${index}`,
    name: foreign ?? "POST /v1/chat/completions",
    status,
    error: foreign ??
      (status === "error" ? "Cannot place the request: no worker" : null),
    errorType: foreign ?? (status === "error" ? "unavailable" : null),
    model: foreign ?? ["quetzal-demo", "llama-3.2-1b", "qwen3-4b"][index % 3],
    tenant: foreign ?? ["acme", "initech", null][index % 3],
    operation: "chat",
    startAtMs: nowMs - 2_000 - index * 9_000,
    durationMs: queueMs + ttftMs + tokens * 7.3,
    queueMs,
    ttftMs,
    interTokenMs: 7.3,
    promptTokens: 80 + index * 13 % 700,
    cachedTokens: index % 2 ? 64 : 0,
    outputTokens: tokens,
    finishReason: foreign ?? "stop",
    attempts: index % 13 === 3 ? 2 : 1,
    decodeWorker: foreign ?? "decode-0",
    prefillWorker: foreign ?? "prefill-0",
    spanCount: 7,
    services: ["quetzal-router", "quetzal-decode", "quetzal-prefill"],
    open: false,
  };
}

export function traceIdOf(index: number): string {
  const part = (salt: number) =>
    (Math.imul(index + salt, 0x9e3779b1) >>> 0).toString(16).padStart(8, "0");
  return part(1) + part(77) + part(991) + part(5);
}

/** A request that waited, was routed, had its prompt run elsewhere and was decoded. */
export function makeTrace(options: TraceOptions = {}): TraceDetail {
  const { foreign, tokens: count = 40 } = options;
  const summary = makeSummary(options);
  const at = (ms: number) => summary.startAtMs + ms;
  const first = 62;
  const tokens = makeTokens(count, first, foreign);
  const decodeMs = tokens.offsetMs[count - 1] - first;
  const span = (
    spanId: string,
    parentSpanId: string | null,
    name: string,
    [startMs, durationMs]: readonly [number, number],
    service: string,
  ): Span => ({
    spanId,
    parentSpanId,
    name: foreign ?? name,
    service: foreign ?? service,
    instance: foreign ?? `${service.replace("quetzal-", "")}-0`,
    kind: "internal",
    startAtMs: at(startMs),
    durationMs,
    status: "unset",
    statusMessage: foreign ?? null,
    attributes: foreign
      ? { [foreign]: foreign, "a.list": [foreign, 1, null] }
      : { "gen_ai.request.model": "quetzal-demo", "quetzal.batch.size": 3 },
    events: foreign
      ? [{
        name: foreign,
        atMs: at(startMs),
        attributes: { [foreign]: foreign },
      }]
      : [],
    links: [],
  });
  const spans = [
    span(
      "a0",
      null,
      "POST /v1/chat/completions",
      [0, first + decodeMs],
      "quetzal-router",
    ),
    span(
      "a1",
      "a0",
      "chat quetzal-demo",
      [1.2, first + decodeMs - 1.6],
      "quetzal-router",
    ),
    span("a2", "a1", "route", [1.6, 3.4], "quetzal-router"),
    span("a3", "a1", "decode", [5.4, first + decodeMs - 6], "quetzal-router"),
    span(
      "a4",
      "a3",
      "quetzal.v1.Decode/Generate",
      [5.9, first + decodeMs - 7],
      "quetzal-decode",
    ),
    span("a5", "a4", "decode.queue", [6, 4.2], "quetzal-decode"),
    span("a6", "a4", "kv.fetch", [10.4, 44], "quetzal-decode"),
    span("a7", "a6", "quetzal.v1.Prefill/Run", [11, 42], "quetzal-prefill"),
  ];
  return {
    summary,
    spans,
    phases: [
      {
        name: "route",
        startAtMs: at(1.6),
        durationMs: 3.4,
        spanId: "a2",
        attempt: 1,
      },
      {
        name: "queue",
        startAtMs: at(6),
        durationMs: 4.2,
        spanId: "a5",
        attempt: 1,
      },
      {
        name: "prefill",
        startAtMs: at(11),
        durationMs: 42,
        spanId: "a7",
        attempt: 1,
      },
      {
        name: "kv_transfer",
        startAtMs: at(20),
        durationMs: 34.4,
        spanId: "a6",
        attempt: 1,
      },
      {
        name: "decode",
        startAtMs: at(first),
        durationMs: decodeMs,
        spanId: "a4",
        attempt: 1,
      },
    ],
    routes: [{
      attempt: 1,
      spanId: "a2",
      startAtMs: at(1.6),
      durationMs: 3.4,
      policy: foreign ?? "prefix-affinity",
      queueWaitMs: 0,
      decodeWorker: foreign ?? "decode-0",
      prefillWorker: foreign ?? "prefill-0",
      prefillReason: foreign ?? "prefill worker",
      uncachedTokens: 412,
      error: foreign ?? null,
      candidates: ["decode-0", "decode-1", "decode-2", "prefill-0"].map((
        workerId,
        i,
      ) => ({
        role: i < 3 ? "decode" as const : "prefill" as const,
        workerId: foreign ? `${foreign}${i}` : workerId,
        score: 0.8125 - i * 0.11,
        load: 120 + i * 340,
        matchedTokens: i === 0 ? 64 : 0,
        blocksFree: 900 - i * 211,
        chosen: i === 0 || i === 3,
      })),
    }],
    prefills: [{
      spanId: "a7",
      workerId: foreign ?? "prefill-0",
      where: "prefill",
      startAtMs: at(11),
      durationMs: 42,
      queueMs: 0.8,
      computeMs: 39,
      sendMs: 6,
      cachedTokens: 64,
      computedTokens: 412,
      chunks: [0, 1, 2, 3].map((i) => ({
        endAtMs: at(21.5 + i * 10),
        durationMs: 9.6,
        blocks: 8 + i * 7,
        tokens: 103,
      })),
    }],
    transfers: [{
      spanId: "a6",
      from: foreign ?? "127.0.0.1:50061",
      workerId: foreign ?? "prefill-0",
      startAtMs: at(20),
      durationMs: 34.4,
      bytes: 3_801_088,
      blocks: 29,
      bytesPerS: 110_496_744,
      failure: foreign ?? null,
    }],
    decodes: [{
      spanId: "a4",
      attempt: 1,
      workerId: foreign ?? "decode-0",
      startAtMs: at(5.9),
      durationMs: first + decodeMs - 7,
      queueMs: 4.2,
      prefillMs: 44,
      cachedTokens: 64,
      transferredTokens: 412,
      computedTokens: 1,
      replayedTokens: 0,
      outputTokens: count,
      preemptions: 0,
      finishReason: foreign ?? "stop",
      error: foreign ?? null,
      steps: [],
      stepCount: count,
    }],
    tokens,
    content: {
      input: [
        {
          role: foreign ?? "system",
          content: foreign ?? "You answer briefly.",
        },
        { role: "user", content: foreign ?? "What is the KV cache?" },
      ],
      output: foreign ?? "It keeps the keys and values of earlier tokens.",
      truncated: false,
    },
    spansLeftOut: 0,
  };
}

const words =
  "It keeps the keys and values of all earlier tokens , so that each new token costs one row of arithmetic instead of the whole prompt .\n"
    .split(/(?= )/);

export function makeTokens(
  count: number,
  firstMs: number,
  foreign?: string,
): TokenStrip {
  const all = Array.from({ length: count }, (_, i) => i);
  // Drafted steps of three tokens: two accepted, one corrected; every other nine plain.
  const kind = (i: number) => i % 18 < 9 ? 0 : i % 3 === 2 ? 2 : 1;
  const latency = (i: number) =>
    kind(i) === 0
      ? 6 + (i * 7919 % 31) / 10 + (i % 97 === 50 ? 60 : 0)
      : i % 3 === 0
      ? 9.5
      : 0;
  let atMs = firstMs;
  let step = -1;
  const steps = all.map((i) => latency(i) > 0 ? ++step : step);
  return {
    count,
    offsetMs: all.map((i) => atMs += i === 0 ? 0 : latency(i)),
    latencyMs: all.map((i) => i === 0 ? 56 : latency(i)),
    provenance: all.map(kind),
    provenanceNames: ["plain", "accepted", "corrected"],
    step: steps,
    batchSize: all.map((i) => 1 + i % 4),
    stepMs: all.map((i) => Math.max(5, latency(i) - 0.8)),
    attempt: all.map(() => 1),
    ids: all.map((i) => 100 + i * 13 % 5_000),
    texts: all.map((i) => foreign ?? words[i % words.length]),
    complete: true,
  };
}

export function makeStats(traces: readonly TraceSummary[]): TraceStats {
  const nowMs = Date.now();
  const percentiles = (base: number) => ({
    p50: base,
    p90: base * 1.6,
    p95: base * 1.9,
    p99: base * 2.8,
    max: base * 3.3,
  });
  return {
    count: traces.length,
    errors: traces.filter((trace) => trace.status === "error").length,
    cancelled: 1,
    promptTokens: 14_210,
    outputTokens: 8_004,
    durationMs: percentiles(352),
    ttftMs: percentiles(61),
    interTokenMs: percentiles(7.1),
    queueMs: percentiles(1.3),
    slices: Array.from({ length: 60 }, (_, i) => ({
      fromMs: nowMs - (60 - i) * 60_000,
      toMs: nowMs - (59 - i) * 60_000,
      count: i % 9 === 4 ? 0 : 2 + i * 7 % 11,
      errors: i % 14 === 9 ? 1 : 0,
      durationMsP50: i % 9 === 4 ? null : 310 + i * 53 % 120,
      durationMsP95: i % 9 === 4 ? null : 480 + i * 91 % 400,
      ttftMsP50: 60,
      ttftMsP95: 110,
    })),
    sampled: traces.length,
  };
}

export function makeMesh(foreign?: string): MeshState {
  const nowMs = Date.now();
  const worker = (
    role: "decode" | "prefill",
    i: number,
    state: "ready" | "draining" | "gone" = "ready",
  ) => ({
    workerId: foreign ? `${foreign}${role}${i}` : `${role}-${i}`,
    role,
    address: foreign ?? `127.0.0.1:5006${i}`,
    startedAtMs: nowMs - 3_600_000,
    state,
    seenAtMs: state === "gone" ? nowMs - 14_000 : nowMs - 400,
    models: [{
      model: foreign ?? "quetzal-demo",
      fingerprint: "f1",
      contextLength: 2_048,
      blockTokens: 16,
      blocksTotal: 1_024,
      blocksFree: 700 - i * 210,
      blocksCached: 122,
      running: 3 - i,
      waiting: i,
      prefillTokensPerS: 5_210,
      decodeTokensPerS: 412,
    }],
    metrics: {
      scrapedAtMs: nowMs,
      stale: false,
      stepMsMean: 6.8,
      batchSizeMean: 2.7,
      prefixHitShare: 0.41,
      preemptionsTotal: 0,
      kvBytesPerS: 1.2e6,
      kvErrorsTotal: 0,
      roofShare: i === 0 ? 0.63 : null,
      residentBytes: 214_000_000,
    },
  });
  const workers = [
    worker("decode", 0),
    worker("decode", 1),
    worker("decode", 2, "gone"),
    worker("prefill", 0),
    worker("prefill", 1, "draining"),
  ];
  const router = foreign ?? "router-0";
  return {
    atMs: nowMs,
    natsConnected: true,
    routers: [{
      routerId: router,
      seenAtMs: nowMs - 300,
      running: 5,
      held: 0,
      requestsPerS: 3.4,
      failuresPerS: 0,
      promptTokensPerS: 820,
      outputTokensPerS: 640,
    }],
    workers,
    edges: [
      {
        from: "clients",
        to: router,
        kind: "request",
        callsPerS: 3.4,
        bytesPerS: null,
        errors: 0,
      },
      {
        from: router,
        to: workers[0].workerId,
        kind: "decode",
        callsPerS: 2.1,
        bytesPerS: null,
        errors: 0,
      },
      {
        from: router,
        to: workers[1].workerId,
        kind: "decode",
        callsPerS: 1.3,
        bytesPerS: null,
        errors: 0,
      },
      {
        from: router,
        to: workers[2].workerId,
        kind: "decode",
        callsPerS: 0.1,
        bytesPerS: null,
        errors: 2,
      },
      {
        from: workers[3].workerId,
        to: workers[0].workerId,
        kind: "kv",
        callsPerS: 1.9,
        bytesPerS: 7.1e6,
        errors: 0,
      },
      {
        from: workers[4].workerId,
        to: workers[1].workerId,
        kind: "kv",
        callsPerS: 0.4,
        bytesPerS: 1.2e6,
        errors: 0,
      },
    ],
    log: [
      {
        atMs: nowMs - 90_000,
        kind: "worker_joined",
        workerId: "decode-2",
        model: null,
        text: foreign ?? "decode-2 joined",
      },
      {
        atMs: nowMs - 14_000,
        kind: "worker_left",
        workerId: "decode-2",
        model: null,
        text: foreign ?? "decode-2 left without a word",
      },
    ],
  };
}

export function makeModels(foreign?: string): ModelList {
  const nowMs = Date.now();
  const states = ["running", "asleep", "absent", "waking"] as const;
  return {
    atMs: nowMs,
    models: states.map((state, i) => ({
      model: foreign
        ? `${foreign}${i}`
        : ["quetzal-demo", "llama-3.2-1b", "qwen3-4b", "gemma-3-1b"][i],
      state,
      decodeReplicas: i === 0 ? 2 : 0,
      prefillReplicas: i === 0 ? 1 : 0,
      running: i === 0 ? 5 : 0,
      waiting: 0,
      held: state === "waking" ? 3 : 0,
      blocksTotal: i === 0 ? 2_048 : 0,
      blocksFree: i === 0 ? 1_190 : 0,
      requestsPerS: i === 0 ? 3.4 : 0,
      failuresPerS: 0,
      outputTokensPerS: i === 0 ? 640 : 0,
      traffic: Array.from({ length: 120 }, (_, s) => ({
        atMs: nowMs - (120 - s) * 1_000,
        arrivals: i === 0 ? Math.round(3 + 2 * Math.sin(s / 9) + s % 3) : 0,
        completions: 3,
        failures: i === 0 && s % 40 === 20 ? 2 : 0,
        held: 0,
        running: 4,
        promptTokens: 800,
        outputTokens: 640,
      })),
      coldStarts: i < 2
        ? [{
          wokenAtMs: nowMs - 500_000,
          readyAtMs: nowMs - 496_800,
          heldMax: 2,
        }]
        : state === "waking"
        ? [{ wokenAtMs: nowMs - 2_000, readyAtMs: null, heldMax: 3 }]
        : [],
      decisions: i === 0
        ? [{
          atMs: nowMs - 60_000,
          policy: foreign ?? "tail",
          replicasBefore: 1,
          replicasAfter: 2,
          reason: foreign ?? "queue wait above its target",
          signals: {
            "quetzal.scaling.queue_wait_ms": 412,
            note: foreign ?? "ok",
          },
          traceId: traceIdOf(1),
        }]
        : [],
      lastRequestAtMs: nowMs - i * 60_000,
    })),
  };
}

export function makeSpeculation(foreign?: string): SpeculationStats {
  return {
    models: [{
      model: foreign ?? "quetzal-demo",
      traces: 212,
      steps: 4_004,
      tokens: 9_120,
      plain: 1_002,
      accepted: 5_310,
      corrected: 2_808,
      tokensPerStep: 2.28,
      acceptance: 0.63,
      drafted: 8_410,
      positions: [
        { reached: 2_900, accepted: 2_390 },
        { reached: 2_390, accepted: 1_640 },
        { reached: 1_640, accepted: 890 },
        { reached: 890, accepted: 390 },
      ],
      speedup: 1.71,
    }],
  };
}

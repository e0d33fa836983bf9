/**
 * The JSON of every endpoint of the dashboard and of its event stream.
 *
 * The page and the command line import these types and nothing else of the service. Times are
 * milliseconds: `…AtMs` since 1970, `…Ms` a length. A number nobody has measured is `null`, never
 * 0 or -1. Strings that came from spans are other people's text: show them as text, never as
 * markup.
 *
 * | method and path                          | body or query          | answer                     |
 * | ---------------------------------------- | ---------------------- | -------------------------- |
 * | GET    /api/session                      |                        | `Session`                  |
 * | POST   /api/session                      | `LoginRequest`         | `Session`, sets the cookie |
 * | DELETE /api/session                      |                        | `Session`, takes it away   |
 * | GET    /api/traces                       | `TraceQuery`           | `TraceList`                |
 * | GET    /api/traces/stats                 | `TraceQuery`           | `TraceStats`               |
 * | GET    /api/traces/:traceId              |                        | `TraceDetail`              |
 * | GET    /api/traces/:traceId/otlp         |                        | OTLP/JSON, for Jaeger      |
 * | GET    /api/traces/:traceId/events       |                        | SSE: `trace`               |
 * | GET    /api/facets                       |                        | `Facets`                   |
 * | GET    /api/mesh                         |                        | `MeshState`                |
 * | GET    /api/models                       |                        | `ModelList`                |
 * | GET    /api/speculation                  | `SpeculationQuery`     | `SpeculationStats`         |
 * | GET    /api/store                        |                        | `StoreState`               |
 * | GET    /api/events                       | `EventsQuery`          | SSE: see `ServerEvents`    |
 * | *      /api/playground/v1/…              | as the router takes it | as the router answers      |
 * | GET    /api/openapi.json                 |                        | OpenAPI 3.1                |
 *
 * Errors are `ApiError` with 400 (a query parameter), 401 (log in), 404, 413, 429, 502 (the router
 * does not answer), 503. State-changing calls need `content-type: application/json`.
 */

/** Body of every answer with a status of 400 or more. */
export interface ApiError {
  readonly error: {
    /** `Cannot <action>: needs <needed>, found <found>`; fit to be shown. */
    readonly message: string;
    /** "invalid_query", "unauthorized", "not_found", "too_large", "unavailable", … */
    readonly reason: string;
    /** The query parameter or body field at fault. */
    readonly field?: string;
  };
}

// --- session -----------------------------------------------------------------------------------

export interface Session {
  /** A token is asked for; without, everybody who reaches the port is let in. */
  readonly authRequired: boolean;
  /** This caller may call the rest of the API. */
  readonly authenticated: boolean;
  /** Prompts and answers are captured and shown. */
  readonly captureContent: boolean;
  /** The playground can reach a router. */
  readonly playground: boolean;
  readonly version: string;
  /** The clock of the server, so that a page can show ages. */
  readonly nowMs: number;
}

export interface LoginRequest {
  readonly token: string;
}

// --- requests ----------------------------------------------------------------------------------

/**
 * Query of /api/traces and /api/traces/stats; all parts are optional and all must hold.
 * An unknown name is refused, so a misspelt filter never shows everything.
 */
export interface TraceQuery {
  /** Exact model name; repeatable, any of them. */
  readonly model?: string | readonly string[];
  readonly tenant?: string;
  /** Full id, or its first 4 or more hex digits. */
  readonly traceId?: string;
  /** Exact request id, as in the `x-request-id` of the answer. */
  readonly requestId?: string;
  /** "ok" | "error" | "cancelled". */
  readonly status?: TraceStatus;
  readonly durationMsMin?: number;
  readonly durationMsMax?: number;
  readonly ttftMsMin?: number;
  readonly ttftMsMax?: number;
  readonly promptTokensMin?: number;
  readonly promptTokensMax?: number;
  readonly outputTokensMin?: number;
  readonly outputTokensMax?: number;
  /** Worker that ran any part of it. */
  readonly worker?: string;
  /** Start of the trace, both included. */
  readonly fromMs?: number;
  readonly toMs?: number;
  /** "newest" unless set. */
  readonly order?: TraceOrder;
  /** 1..200, 50 unless set. */
  readonly limit?: number;
  /** `nextCursor` of the page before; the other parts must be the same. */
  readonly cursor?: string;
}

export type TraceOrder = "newest" | "oldest" | "slowest" | "fastest";

/** "cancelled": the client went away, nothing failed. */
export type TraceStatus = "ok" | "error" | "cancelled";

export interface TraceList {
  readonly traces: readonly TraceSummary[];
  /** Absent on the last page. */
  readonly nextCursor?: string;
}

/** One line of the list. */
export interface TraceSummary {
  /** 32 hex digits; the page's address is /traces/<traceId>. */
  readonly traceId: string;
  readonly requestId: string | null;
  /** Name of the root span: "POST /v1/chat/completions". */
  readonly name: string;
  readonly status: TraceStatus;
  /** Message of the failure. */
  readonly error: string | null;
  /** "unavailable", "invalidArgument", …: `error.type`. */
  readonly errorType: string | null;
  /** `null`: no model was asked (a refused request, a list of models). */
  readonly model: string | null;
  readonly tenant: string | null;
  /** "chat", "text_completion". */
  readonly operation: string | null;
  readonly startAtMs: number;
  readonly durationMs: number;
  /** Before a worker took it: held plus waiting in the worker. */
  readonly queueMs: number | null;
  /** From the router taking the prompt to the first token. */
  readonly ttftMs: number | null;
  /** Mean between two tokens. */
  readonly interTokenMs: number | null;
  readonly promptTokens: number | null;
  readonly cachedTokens: number | null;
  readonly outputTokens: number | null;
  /** "stop", "length", … */
  readonly finishReason: string | null;
  /** Decode calls; more than 1: workers failed and the sequence was replayed. */
  readonly attempts: number;
  /** The decode worker that ended it. */
  readonly decodeWorker: string | null;
  readonly prefillWorker: string | null;
  readonly spanCount: number;
  readonly services: readonly string[];
  /** No root span yet: still running, or its spans are still on their way. */
  readonly open: boolean;
}

/** Numbers over all traces that a query matches. */
export interface TraceStats {
  readonly count: number;
  readonly errors: number;
  readonly cancelled: number;
  readonly promptTokens: number;
  readonly outputTokens: number;
  readonly durationMs: Percentiles;
  readonly ttftMs: Percentiles;
  readonly interTokenMs: Percentiles;
  readonly queueMs: Percentiles;
  /** At most 60 slices of equal length over the time range, oldest first. */
  readonly slices: readonly StatsSlice[];
  /** Traces the percentiles were computed from: the newest 10,000 that match. */
  readonly sampled: number;
}

export interface Percentiles {
  readonly p50: number | null;
  readonly p90: number | null;
  readonly p95: number | null;
  readonly p99: number | null;
  readonly max: number | null;
}

export interface StatsSlice {
  readonly fromMs: number;
  readonly toMs: number;
  readonly count: number;
  readonly errors: number;
  readonly durationMsP50: number | null;
  readonly durationMsP95: number | null;
  readonly ttftMsP50: number | null;
  readonly ttftMsP95: number | null;
}

/** Values to choose from in filters, most frequent first, at most 200 each. */
export interface Facets {
  readonly models: readonly Facet[];
  readonly tenants: readonly Facet[];
  readonly workers: readonly Facet[];
}

export interface Facet {
  readonly value: string;
  readonly count: number;
}

// --- one trace ---------------------------------------------------------------------------------

export interface TraceDetail {
  readonly summary: TraceSummary;
  /** Ordered by start; parents before their children where times are equal. */
  readonly spans: readonly Span[];
  /** Where the time went, in order; gaps and overlaps are possible. */
  readonly phases: readonly Phase[];
  /** One per attempt. */
  readonly routes: readonly RouteDecision[];
  readonly prefills: readonly PrefillRun[];
  readonly transfers: readonly KvTransfer[];
  /** One per decode call. */
  readonly decodes: readonly DecodeRun[];
  /** `null`: nothing was generated, or the spans are not there yet. */
  readonly tokens: TokenStrip | null;
  /** `null` unless content capture is on and there was any. */
  readonly content: TraceContent | null;
  /** Spans beyond the limit of one trace that were not stored. */
  readonly spansLeftOut: number;
}

export type SpanKind =
  | "internal"
  | "server"
  | "client"
  | "producer"
  | "consumer";

export interface Span {
  readonly spanId: string;
  /** `null` for a root. A parent that is not in the list was lost, or is still on its way. */
  readonly parentSpanId: string | null;
  readonly name: string;
  readonly service: string;
  /** `service.instance.id`: which replica. */
  readonly instance: string | null;
  readonly kind: SpanKind;
  readonly startAtMs: number;
  readonly durationMs: number;
  readonly status: "unset" | "ok" | "error";
  readonly statusMessage: string | null;
  /** Content (`gen_ai.input.messages`, …) is left out unless capture is on. */
  readonly attributes: Attributes;
  /** The packed token columns are not repeated here: see `TraceDetail.tokens`. */
  readonly events: readonly SpanEvent[];
  readonly links: readonly SpanLink[];
}

export interface SpanEvent {
  readonly name: string;
  readonly atMs: number;
  readonly attributes: Attributes;
}

export interface SpanLink {
  readonly traceId: string;
  readonly spanId: string;
}

export type Attributes = { readonly [name: string]: AttributeValue };

/** Integers beyond 2^53 arrive as decimal strings, NaN and infinities as their names. */
export type AttributeValue =
  | string
  | number
  | boolean
  | null
  | readonly AttributeValue[]
  | { readonly [name: string]: AttributeValue };

export type PhaseName =
  /** Waiting for a worker at the router. */
  | "route"
  | "tokenize"
  /** Waiting for admission in the worker. */
  | "queue"
  /** The prompt, wherever it was computed. */
  | "prefill"
  | "kv_transfer"
  /** First to last token. */
  | "decode";

export interface Phase {
  readonly name: PhaseName;
  readonly startAtMs: number;
  readonly durationMs: number;
  /** The span that it was read from. */
  readonly spanId: string;
  readonly attempt: number;
}

export interface RouteDecision {
  readonly attempt: number;
  readonly spanId: string;
  readonly startAtMs: number;
  readonly durationMs: number;
  /** "prefix-affinity", "least-load". */
  readonly policy: string | null;
  /** How long the request was held. */
  readonly queueWaitMs: number | null;
  readonly decodeWorker: string | null;
  readonly prefillWorker: string | null;
  /** "prefill worker", "short prompt", "idle decode worker", "no prefill worker". */
  readonly prefillReason: string | null;
  readonly uncachedTokens: number | null;
  /** All that were judged, best score first within a role. */
  readonly candidates: readonly RouteCandidate[];
  /** Why no worker was found. */
  readonly error: string | null;
}

export interface RouteCandidate {
  readonly role: "decode" | "prefill";
  readonly workerId: string;
  readonly score: number;
  readonly load: number;
  /** Prompt tokens that its prefix cache holds. */
  readonly matchedTokens: number;
  readonly blocksFree: number;
  readonly chosen: boolean;
}

/** One prompt run, on a prefill worker or in the decode worker itself. */
export interface PrefillRun {
  readonly spanId: string;
  readonly workerId: string | null;
  readonly where: "prefill" | "decode";
  readonly startAtMs: number;
  readonly durationMs: number;
  readonly queueMs: number | null;
  readonly computeMs: number | null;
  readonly sendMs: number | null;
  readonly cachedTokens: number | null;
  readonly computedTokens: number | null;
  readonly chunks: readonly PrefillChunk[];
}

export interface PrefillChunk {
  /** When the chunk was complete. */
  readonly endAtMs: number;
  /** Since the chunk before, or since the start. */
  readonly durationMs: number;
  /** Blocks of the sequence that are complete now. */
  readonly blocks: number;
  readonly tokens: number | null;
}

export interface KvTransfer {
  readonly spanId: string;
  /** host:port of the prefill worker. */
  readonly from: string | null;
  readonly workerId: string | null;
  readonly startAtMs: number;
  readonly durationMs: number;
  readonly bytes: number;
  readonly blocks: number;
  /** Over the whole transfer, waiting for the prompt's computation included. */
  readonly bytesPerS: number | null;
  /** Why it ended early: "stalled", "checksum", …; the rest was computed by decode. */
  readonly failure: string | null;
}

/** One decode call as the decode worker saw it. */
export interface DecodeRun {
  readonly spanId: string;
  readonly attempt: number;
  readonly workerId: string | null;
  readonly startAtMs: number;
  readonly durationMs: number;
  readonly queueMs: number | null;
  readonly prefillMs: number | null;
  readonly cachedTokens: number | null;
  readonly transferredTokens: number | null;
  readonly computedTokens: number | null;
  /** Tokens emitted by earlier workers, replayed into this one. */
  readonly replayedTokens: number | null;
  readonly outputTokens: number | null;
  /** Times it lost its blocks and was computed again. */
  readonly preemptions: number | null;
  readonly finishReason: string | null;
  readonly error: string | null;
  /** A sample of the steps, spread evenly, at most 16; `TraceDetail.tokens` has all of them. */
  readonly steps: readonly DecodeStep[];
  readonly stepCount: number;
}

export interface DecodeStep {
  readonly index: number;
  readonly atMs: number;
  /** Sequences in the batch. */
  readonly batchSize: number | null;
  readonly stepMs: number | null;
}

/**
 * - `plain`: chosen by the model, without a draft;
 * - `accepted`: proposed by the draft and verified;
 * - `corrected`: the model's choice where it turned the draft down.
 */
export type Provenance = "plain" | "accepted" | "corrected" | "unknown";

/**
 * Every output token, in columns: 2,000 tokens are 2,000 entries of each array, which costs a
 * fifth of 2,000 objects to send and to read. All arrays have `count` entries.
 */
export interface TokenStrip {
  readonly count: number;
  /** Arrival at the router, relative to `TraceSummary.startAtMs`. */
  readonly offsetMs: readonly number[];
  /** Since the token before; the first one's: since the start of its decode call. Tokens of one
   *  step arrive together: the first carries the step's latency, the others 0. */
  readonly latencyMs: readonly number[];
  /** Index into `provenanceNames`. */
  readonly provenance: readonly number[];
  readonly provenanceNames: readonly Provenance[];
  /** Counts the steps of all attempts; tokens with the same number came from one step. */
  readonly step: readonly number[];
  /** Sequences that shared the step. */
  readonly batchSize: readonly number[];
  /** What the step took inside the engine. */
  readonly stepMs: readonly number[];
  /** 1 based: grows when a worker died. */
  readonly attempt: readonly number[];
  /** Vocabulary ids; `null` unless content capture is on, for ids are text too. */
  readonly ids: readonly number[] | null;
  /** Text each token made, "" where it only completes a later character; `null` unless content
   *  capture is on. */
  readonly texts: readonly string[] | null;
  /** False: the answer was longer than what a trace keeps; `count` is less than outputTokens. */
  readonly complete: boolean;
}

export interface TraceContent {
  /** The prompt: messages of a chat, or one text. Cut at 64 KiB. */
  readonly input: string | readonly ChatMessage[] | null;
  readonly output: string | null;
  readonly truncated: boolean;
}

export interface ChatMessage {
  readonly role: string;
  readonly content: string;
}

// --- mesh --------------------------------------------------------------------------------------

/** What is alive now. */
export interface MeshState {
  readonly atMs: number;
  /** False: NATS is away and what follows is the last known. */
  readonly natsConnected: boolean;
  readonly routers: readonly RouterState[];
  /** Ordered by role, then id. Workers that went away stay for 60 s with `gone`. */
  readonly workers: readonly WorkerState[];
  /** Arrows of the graph, from traces of the last minute. */
  readonly edges: readonly MeshEdge[];
  /** The newest last, at most 100. */
  readonly log: readonly MeshEvent[];
}

export interface RouterState {
  readonly routerId: string;
  /** The last sign of life: a traffic report or a scrape. */
  readonly seenAtMs: number;
  /** Sums over its models. */
  readonly running: number;
  readonly held: number;
  readonly requestsPerS: number;
  readonly failuresPerS: number;
  readonly promptTokensPerS: number;
  readonly outputTokensPerS: number;
}

export interface WorkerState {
  readonly workerId: string;
  readonly role: "prefill" | "decode";
  readonly address: string;
  readonly startedAtMs: number;
  readonly state: "ready" | "draining" | "gone";
  /** When it was last heard of. */
  readonly seenAtMs: number;
  readonly models: readonly WorkerModelState[];
  /** From its /metrics; `null` when it is not scraped. */
  readonly metrics: WorkerMetricsState | null;
}

export interface WorkerModelState {
  readonly model: string;
  readonly fingerprint: string;
  readonly contextLength: number;
  readonly blockTokens: number;
  readonly blocksTotal: number;
  /** Free or reclaimable. */
  readonly blocksFree: number;
  /** Full blocks that its prefix cache announces, from KV events; `null` before any. */
  readonly blocksCached: number | null;
  readonly running: number;
  readonly waiting: number;
  readonly prefillTokensPerS: number;
  readonly decodeTokensPerS: number;
}

export interface WorkerMetricsState {
  readonly scrapedAtMs: number;
  /** The last scrape failed; the numbers are older. */
  readonly stale: boolean;
  readonly stepMsMean: number | null;
  /** Sequences per step over the last scrape interval. */
  readonly batchSizeMean: number | null;
  readonly prefixHitShare: number | null;
  readonly preemptionsTotal: number | null;
  readonly kvBytesPerS: number | null;
  readonly kvErrorsTotal: number | null;
  /** Memory bandwidth used over the machine's measured roof, 0..1; `null` unless reported. */
  readonly roofShare: number | null;
  readonly residentBytes: number | null;
}

/** Requests or KV that went from one process to another. */
export interface MeshEdge {
  /** routerId, workerId or "clients". */
  readonly from: string;
  readonly to: string;
  readonly kind: "request" | "decode" | "kv";
  readonly callsPerS: number;
  readonly bytesPerS: number | null;
  readonly errors: number;
}

export interface MeshEvent {
  readonly atMs: number;
  readonly kind:
    | "worker_joined"
    | "worker_left"
    | "worker_draining"
    | "model_loaded"
    | "model_unloaded"
    | "wake"
    | "nats_lost"
    | "nats_back";
  readonly workerId: string | null;
  readonly model: string | null;
  /** One sentence. */
  readonly text: string;
}

// --- models ------------------------------------------------------------------------------------

export interface ModelList {
  readonly atMs: number;
  readonly models: readonly ModelState[];
}

export interface ModelState {
  readonly model: string;
  /**
   * - `running`: a decode worker serves it;
   * - `waking`: requests are held and nobody serves it yet;
   * - `asleep`: it was served since the dashboard started, nobody serves it now;
   * - `absent`: it was only asked for.
   */
  readonly state: "running" | "waking" | "asleep" | "absent";
  readonly decodeReplicas: number;
  readonly prefillReplicas: number;
  readonly running: number;
  readonly waiting: number;
  readonly held: number;
  readonly blocksTotal: number;
  readonly blocksFree: number;
  readonly requestsPerS: number;
  readonly failuresPerS: number;
  readonly outputTokensPerS: number;
  /** One point per second for the last 120, oldest first; seconds without a report are 0. */
  readonly traffic: readonly TrafficPoint[];
  readonly coldStarts: readonly ColdStart[];
  /** The newest first, at most 20. */
  readonly decisions: readonly ScalingDecision[];
  readonly lastRequestAtMs: number | null;
}

export interface TrafficPoint {
  readonly atMs: number;
  readonly arrivals: number;
  readonly completions: number;
  readonly failures: number;
  readonly held: number;
  readonly running: number;
  readonly promptTokens: number;
  readonly outputTokens: number;
}

/** From the first wake message to a decode worker that serves the model. */
export interface ColdStart {
  readonly wokenAtMs: number;
  /** `null`: it still waits. */
  readonly readyAtMs: number | null;
  readonly heldMax: number;
}

/** Read from spans named "scale" of the autoscaler. */
export interface ScalingDecision {
  readonly atMs: number;
  readonly policy: string | null;
  readonly replicasBefore: number | null;
  readonly replicasAfter: number | null;
  readonly reason: string | null;
  /** Everything the decision was made from: attributes under `quetzal.scaling.`. */
  readonly signals: Attributes;
  readonly traceId: string;
}

// --- speculation -------------------------------------------------------------------------------

export interface SpeculationQuery {
  readonly model?: string;
  /** Last 15 minutes unless set. */
  readonly fromMs?: number;
  readonly toMs?: number;
}

/** From the tokens of stored traces (the newest 2,000 that match). */
export interface SpeculationStats {
  readonly models: readonly ModelSpeculation[];
}

export interface ModelSpeculation {
  readonly model: string;
  readonly traces: number;
  readonly steps: number;
  readonly tokens: number;
  readonly plain: number;
  readonly accepted: number;
  readonly corrected: number;
  /** Output tokens per step; 1 without speculation. */
  readonly tokensPerStep: number | null;
  /** accepted / drafted; `null` when nothing was drafted or drafts are not reported. */
  readonly acceptance: number | null;
  readonly drafted: number | null;
  /** `positions[0]`: the first token of a draft. A step reached a position when all before it were
   *  accepted. */
  readonly positions: readonly {
    readonly reached: number;
    readonly accepted: number;
  }[];
  /** Seconds per token of plain steps over seconds per token of drafted steps; `null` until both
   *  were seen. */
  readonly speedup: number | null;
}

// --- store -------------------------------------------------------------------------------------

export interface StoreState {
  readonly traces: number;
  readonly spans: number;
  readonly bytes: number;
  readonly bytesMax: number;
  readonly oldestAtMs: number | null;
  readonly retentionMs: number;
  /** Since the start of the process. */
  readonly received: IngestCounts;
}

export interface IngestCounts {
  readonly requests: number;
  readonly spans: number;
  readonly bytes: number;
  /** Not stored: the trace was not kept by tail sampling. */
  readonly sampledOut: number;
  /** Not stored: malformed. */
  readonly rejected: number;
  /** Not stored: the queue was full or the trace too long. */
  readonly dropped: number;
}

// --- server-sent events ------------------------------------------------------------------------

/** Query of /api/events: which kinds; all of them unless set. Repeatable. */
export interface EventsQuery {
  readonly kind?: keyof ServerEvents | readonly (keyof ServerEvents)[];
}

/**
 * Events of /api/events: `event:` is the key, `data:` one line of JSON. A new connection gets
 * `hello`, then the present `mesh` and `models`; after a gap the browser reconnects by itself and
 * gets the present state again, so that no event must be kept. A reader that is too slow is cut
 * off and comes back.
 */
export interface ServerEvents {
  readonly hello: Session;
  /** New or changed traces, gathered for up to 250 ms. Replace by traceId. */
  readonly traces: readonly TraceSummary[];
  /** At most twice a second, when something changed. */
  readonly mesh: MeshState;
  /** Once a second while something changes. */
  readonly models: ModelList;
  /** Every 15 s, so that proxies keep the connection. */
  readonly ping: { readonly atMs: number };
}

/**
 * Events of /api/traces/:traceId/events. It may be opened before the first span has arrived: the
 * playground does so with the `x-trace-id` of its answer. Ends by itself 30 s after the last
 * change of a trace that is complete.
 */
export interface TraceEvents {
  /** The whole trace again, at most four times a second. */
  readonly trace: TraceDetail;
  readonly ping: { readonly atMs: number };
}

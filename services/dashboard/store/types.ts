import type {
  Facets,
  Span,
  TraceList,
  TraceQuery,
  TraceStats,
  TraceSummary,
} from "../api_types.ts";

/** A query whose numbers are numbers and whose lists are lists. */
export type CheckedQuery = Omit<TraceQuery, "model" | "cursor"> & {
  readonly model?: readonly string[];
  readonly cursor?: string;
};

export interface StoredTrace {
  readonly traceId: string;
  readonly spans: readonly Span[];
  readonly spansLeftOut: number;
  /** `spans` as JSON, where somebody has it already. */
  readonly json?: string;
}

export interface StoreCounts {
  readonly traces: number;
  readonly spans: number;
  readonly bytes: number;
  readonly oldestAtMs: number | null;
}

export interface RetentionLimits {
  readonly ageMs: number;
  readonly bytesMax: number;
}

/** Where traces are kept. SQLite in the service; a test may use memory. */
export interface TraceStore extends Disposable {
  /** Stores whole traces; one that is there already gets the new spans too. */
  put(traces: readonly StoredTrace[]): readonly TraceSummary[];
  has(traceId: string): boolean;
  get(traceId: string): StoredTrace | undefined;
  /** Throws `QueryError` for a cursor that is none. */
  list(query: CheckedQuery): TraceList;
  stats(query: CheckedQuery, nowMs: number): TraceStats;
  facets(): Facets;
  counts(): StoreCounts;
  /** Deletes what is too old or too much, at most some thousand; answers how many. */
  prune(limits: RetentionLimits, nowMs: number): number;
  /** The newest traces of a model that match, for statistics over tokens. */
  recent(query: CheckedQuery, limit: number): Iterable<StoredTrace>;
}

/** A query that cannot be answered; `field` names the parameter. */
export class QueryError extends Error {
  override readonly name = "QueryError";
  readonly field: string;

  constructor(field: string, message: string) {
    super(message);
    this.field = field;
  }
}

import { deflateRawSync, inflateRawSync } from "node:zlib";
import type {
  Facet,
  Facets,
  TraceList,
  TraceStats,
  TraceSummary,
} from "../api_types.ts";
import { summarize, workersOf } from "../trace/summarize.ts";
import type { Database, Row } from "./database.ts";
import { openDatabase } from "./database.ts";
import { prepareSchema } from "./schema.ts";
import { traceStats } from "./stats.ts";
import type {
  CheckedQuery,
  RetentionLimits,
  StoreCounts,
  StoredTrace,
  TraceStore,
} from "./types.ts";
import { behind, cursorOf, orderOf, statusNumbers, whereOf } from "./where.ts";

export interface SqliteStoreOptions {
  /** File, or ":memory:". */
  readonly path: string;
  /** Further spans of one trace are counted and left out. */
  readonly spansPerTraceMax: number;
}

export async function openSqliteStore(
  options: SqliteStoreOptions,
): Promise<TraceStore> {
  const database = await openDatabase(options.path);
  try {
    prepareSchema(database, options.path);
    return new SqliteStore(database, options);
  } catch (error) {
    database[Symbol.dispose]();
    throw error;
  }
}

class SqliteStore implements TraceStore {
  readonly #db: Database;
  readonly #spansPerTraceMax: number;
  #traces: number;
  #spans: number;

  constructor(database: Database, { spansPerTraceMax }: SqliteStoreOptions) {
    this.#db = database;
    this.#spansPerTraceMax = spansPerTraceMax;
    const row = database.prepare(
      "SELECT count(*) AS traces, sum(span_count) AS spans FROM traces",
    ).get();
    this.#traces = Number(row?.traces ?? 0);
    this.#spans = Number(row?.spans ?? 0);
  }

  put(traces: readonly StoredTrace[]): TraceSummary[] {
    if (traces.length === 0) return [];
    return this.#db.transaction(() => traces.map((trace) => this.#put(trace)));
  }

  has(traceId: string): boolean {
    return this.#rowOf(traceId) !== undefined;
  }

  get(traceId: string): StoredTrace | undefined {
    const row = this.#db.prepare(
      `SELECT trace_id, spans, left_out FROM traces JOIN bodies USING (id)
        WHERE trace_id = ?`,
    ).get(traceId);
    return row && toStored(row);
  }

  list(query: CheckedQuery): TraceList {
    const { order = "newest", limit = 50, cursor } = query;
    const { column, direction } = orderOf(order);
    const after = cursor === undefined ? undefined : behind(cursor, order);
    const where = whereOf(query, after);
    // One more than asked for tells whether there is a next page.
    const rows = this.#db.prepare(
      `SELECT id, ${column} AS place, summary
         FROM (SELECT id, ${column} FROM traces${where.sql}
                ORDER BY ${column} ${direction}, id ${direction}
                LIMIT ${Number(limit) + 1})
         JOIN bodies USING (id)
        ORDER BY place ${direction}, id ${direction}`,
    ).all(...where.values);
    const page = rows.slice(0, limit);
    const traces = page.map(({ summary }) => JSON.parse(String(summary)));
    const last = page.at(-1);
    if (rows.length <= limit || last === undefined) return { traces };
    return {
      traces,
      nextCursor: cursorOf(order, Number(last.place), Number(last.id)),
    };
  }

  stats(query: CheckedQuery, nowMs: number): TraceStats {
    return traceStats(this.#db, query, nowMs);
  }

  facets(): Facets {
    const values = (column: "model" | "tenant"): Facet[] =>
      this.#db.prepare(
        `SELECT ${column} AS value, count(*) AS count FROM traces
          WHERE ${column} IS NOT NULL GROUP BY ${column}
          ORDER BY count DESC, value LIMIT 200`,
      ).all().map(({ value, count }) => ({
        value: String(value),
        count: Number(count),
      }));
    return {
      models: values("model"),
      tenants: values("tenant"),
      workers: this.#workers(),
    };
  }

  counts(): StoreCounts {
    const oldest = this.#db.prepare("SELECT min(start_ms) AS at FROM traces")
      .get()?.at;
    return {
      traces: this.#traces,
      spans: this.#spans,
      bytes: this.#bytes(),
      oldestAtMs: oldest === null || oldest === undefined
        ? null
        : Number(oldest),
    };
  }

  prune({ ageMs, bytesMax }: RetentionLimits, nowMs: number): number {
    const oldest = (sql: string, ...values: number[]) =>
      this.#db.prepare(
        `SELECT id, span_count FROM traces ${sql} ORDER BY start_ms
          LIMIT ${pruneMax}`,
      ).all(...values);
    let rows = oldest("WHERE start_ms < ?", nowMs - ageMs);
    const bytes = this.#bytes();
    if (rows.length === 0 && bytes > bytesMax) {
      // Down to nine tenths, so that this is not needed at every write.
      const share = 1 - 0.9 * bytesMax / bytes;
      rows = oldest("").slice(0, Math.ceil(share * this.#traces));
    }
    if (rows.length === 0) return 0;
    this.#db.transaction(() => rows.forEach((row) => this.#delete(row)));
    this.#db.exec("PRAGMA incremental_vacuum");
    return rows.length;
  }

  *recent(query: CheckedQuery, limit: number): Iterable<StoredTrace> {
    const where = whereOf(query);
    const ids = this.#db.prepare(
      `SELECT id FROM traces${where.sql} ORDER BY start_ms DESC
        LIMIT ${Number(limit)}`,
    ).all(...where.values);
    for (const { id } of ids) {
      const row = this.#db.prepare(
        `SELECT trace_id, spans, left_out FROM traces JOIN bodies USING (id)
          WHERE id = ?`,
      ).get(id);
      if (row !== undefined) yield toStored(row);
    }
  }

  [Symbol.dispose](): void {
    this.#db.exec("PRAGMA wal_checkpoint(TRUNCATE)");
    this.#db[Symbol.dispose]();
  }

  #put(trace: StoredTrace): TraceSummary {
    const before = this.#rowOf(trace.traceId);
    const merged = before === undefined
      ? trace
      : merge(this.get(trace.traceId)!, trace, this.#spansPerTraceMax);
    const summary = summarize(trace.traceId, merged.spans);
    if (before !== undefined) this.#delete(before);
    const id = this.#insert(summary, merged);
    this.#db.prepare(
      "INSERT INTO bodies (id, summary, spans, left_out) VALUES (?, ?, ?, ?)",
    ).run(
      id,
      JSON.stringify(summary),
      pack(merged.json ?? JSON.stringify(merged.spans)),
      merged.spansLeftOut,
    );
    this.#traces++;
    this.#spans += summary.spanCount;
    return summary;
  }

  #insert(summary: TraceSummary, { spans }: StoredTrace): number {
    const workers = workersOf(spans);
    const row = this.#db.prepare(
      `INSERT INTO traces (trace_id, request_id, start_ms, duration_ms, status,
         model, tenant, ttft_ms, inter_token_ms, queue_ms, prompt_tokens,
         output_tokens, span_count, workers)
       VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING id`,
    ).get(
      summary.traceId,
      summary.requestId,
      summary.startAtMs,
      summary.durationMs,
      statusNumbers[summary.status],
      summary.model,
      summary.tenant,
      summary.ttftMs,
      summary.interTokenMs,
      summary.queueMs,
      summary.promptTokens,
      summary.outputTokens,
      summary.spanCount,
      workers.length === 0 ? "" : `\n${workers.join("\n")}\n`,
    );
    return Number(row!.id);
  }

  #delete({ id, span_count }: Row): void {
    this.#db.prepare("DELETE FROM traces WHERE id = ?").run(id);
    this.#db.prepare("DELETE FROM bodies WHERE id = ?").run(id);
    this.#traces--;
    this.#spans -= Number(span_count);
  }

  #rowOf(traceId: string): Row | undefined {
    return this.#db.prepare(
      "SELECT id, span_count FROM traces WHERE trace_id = ?",
    ).get(traceId);
  }

  /** Of the newest traces only: the text of all of them would be read otherwise. */
  #workers(): Facet[] {
    const rows = this.#db.prepare(
      "SELECT workers FROM traces ORDER BY start_ms DESC LIMIT 5000",
    ).all();
    const counts = new Map<string, number>();
    for (const { workers } of rows) {
      for (const worker of String(workers).split("\n")) {
        if (worker !== "") counts.set(worker, (counts.get(worker) ?? 0) + 1);
      }
    }
    return [...counts].map(([value, count]) => ({ value, count }))
      .sort((a, b) => b.count - a.count || a.value.localeCompare(b.value))
      .slice(0, 200);
  }

  #bytes(): number {
    const read = (name: string) =>
      Number(this.#db.prepare(`PRAGMA ${name}`).get()?.[name] ?? 0);
    return (read("page_count") - read("freelist_count")) * read("page_size");
  }
}

const pruneMax = 5_000;

function merge(
  before: StoredTrace,
  { traceId, spans, spansLeftOut }: StoredTrace,
  max: number,
): StoredTrace {
  // An exporter that did not hear our answer sends its spans again.
  const known = new Set(before.spans.map(({ spanId }) => spanId));
  const fresh = spans.filter(({ spanId }) => !known.has(spanId));
  const taken = fresh.slice(0, Math.max(0, max - before.spans.length));
  return {
    traceId,
    spans: [...before.spans, ...taken],
    spansLeftOut: before.spansLeftOut + spansLeftOut + fresh.length -
      taken.length,
  };
}

/**
 * A fifth of the size for some µs. The window is that of a typical trace: the usual one would take
 * 256 KB for each of thousands of calls a second, which the collector of garbage sees too late.
 */
const packing = { level: 1, windowBits: 13, memLevel: 6, chunkSize: 8_192 };

function pack(json: string): Uint8Array {
  return deflateRawSync(json, packing);
}

function toStored({ trace_id, spans, left_out }: Row): StoredTrace {
  const json = inflateRawSync(spans as Uint8Array).toString();
  return {
    traceId: String(trace_id),
    spans: JSON.parse(json),
    spansLeftOut: Number(left_out),
  };
}

import type { Percentiles, StatsSlice, TraceStats } from "../api_types.ts";
import type { Database, Row } from "./database.ts";
import type { CheckedQuery } from "./types.ts";
import { statusNumbers, whereOf } from "./where.ts";

const sampleMax = 10_000;
const slicesMax = 60;

/** Counts are of all that match, percentiles of the newest ten thousand. */
export function traceStats(
  database: Database,
  query: CheckedQuery,
  nowMs: number,
): TraceStats {
  const where = whereOf(query);
  const sample = database.prepare(
    `SELECT start_ms, duration_ms, ttft_ms, inter_token_ms, queue_ms
       FROM traces${where.sql} ORDER BY start_ms DESC LIMIT ${sampleMax}`,
  ).all(...where.values);
  const fromMs = query.fromMs ?? oldest(sample);
  const toMs = query.toMs ?? nowMs;
  const sliceMs = Math.max(1, (toMs - fromMs) / slicesMax);
  const groups = database.prepare(
    `SELECT CAST(min(max((start_ms - ?) / ?, 0), ${slicesMax - 1}) AS INTEGER)
              AS slice,
            count(*) AS count,
            sum(status = ${statusNumbers.error}) AS errors,
            sum(status = ${statusNumbers.cancelled}) AS cancelled,
            sum(prompt_tokens) AS prompt_tokens,
            sum(output_tokens) AS output_tokens
       FROM traces${where.sql} GROUP BY slice`,
  ).all(fromMs, sliceMs, ...where.values);
  const total = (name: string) =>
    groups.reduce((sum, row) => sum + Number(row[name] ?? 0), 0);
  return {
    count: total("count"),
    errors: total("errors"),
    cancelled: total("cancelled"),
    promptTokens: total("prompt_tokens"),
    outputTokens: total("output_tokens"),
    durationMs: percentiles(column(sample, "duration_ms")),
    ttftMs: percentiles(column(sample, "ttft_ms")),
    interTokenMs: percentiles(column(sample, "inter_token_ms")),
    queueMs: percentiles(column(sample, "queue_ms")),
    slices: sample.length === 0
      ? []
      : slices({ sample, groups, fromMs, sliceMs }),
    sampled: sample.length,
  };
}

function slices({ sample, groups, fromMs, sliceMs }: {
  readonly sample: readonly Row[];
  readonly groups: readonly Row[];
  readonly fromMs: number;
  readonly sliceMs: number;
}): StatsSlice[] {
  const counted = new Map(groups.map((row) => [row.slice, row]));
  const members = Map.groupBy(
    sample,
    (row) =>
      Math.trunc(
        Math.min(
          Math.max((Number(row.start_ms) - fromMs) / sliceMs, 0),
          slicesMax - 1,
        ),
      ),
  );
  return Array.from({ length: slicesMax }, (_, index) => {
    const rows = members.get(index) ?? [];
    const duration = percentiles(column(rows, "duration_ms"));
    const ttft = percentiles(column(rows, "ttft_ms"));
    return {
      fromMs: fromMs + index * sliceMs,
      toMs: fromMs + (index + 1) * sliceMs,
      count: Number(counted.get(index)?.count ?? 0),
      errors: Number(counted.get(index)?.errors ?? 0),
      durationMsP50: duration.p50,
      durationMsP95: duration.p95,
      ttftMsP50: ttft.p50,
      ttftMsP95: ttft.p95,
    };
  });
}

function oldest(sample: readonly Row[]): number {
  return Number(sample.at(-1)?.start_ms ?? 0);
}

function column(rows: readonly Row[], name: string): Float64Array {
  return Float64Array.from(
    rows.filter((row) => row[name] !== null),
    (row) => Number(row[name]),
  );
}

/** Nearest rank: a value that was measured, never one in between. */
export function percentiles(values: Float64Array): Percentiles {
  values.sort();
  const at = (share: number) =>
    values.length === 0
      ? null
      : values[Math.max(0, Math.ceil(share * values.length) - 1)];
  return {
    p50: at(0.5),
    p90: at(0.9),
    p95: at(0.95),
    p99: at(0.99),
    max: at(1),
  };
}

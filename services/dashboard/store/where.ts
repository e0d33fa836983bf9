/** A search as SQL; every value is bound, never part of the text. */
import type { TraceOrder, TraceStatus } from "../api_types.ts";
import type { SqlValue } from "./database.ts";
import { type CheckedQuery, QueryError } from "./types.ts";

export interface Where {
  /** "" or " WHERE …". */
  readonly sql: string;
  readonly values: readonly SqlValue[];
}

export const statusNumbers: Readonly<Record<TraceStatus, number>> = {
  ok: 0,
  error: 1,
  cancelled: 2,
};

const ranges = [
  ["durationMsMin", "duration_ms >= ?"],
  ["durationMsMax", "duration_ms <= ?"],
  ["ttftMsMin", "ttft_ms >= ?"],
  ["ttftMsMax", "ttft_ms <= ?"],
  ["promptTokensMin", "prompt_tokens >= ?"],
  ["promptTokensMax", "prompt_tokens <= ?"],
  ["outputTokensMin", "output_tokens >= ?"],
  ["outputTokensMax", "output_tokens <= ?"],
  ["fromMs", "start_ms >= ?"],
  ["toMs", "start_ms <= ?"],
] as const;

export function whereOf(query: CheckedQuery, extra?: Where): Where {
  const terms: string[] = [];
  const values: SqlValue[] = [];
  const add = (term: string, ...bound: SqlValue[]) => {
    terms.push(term);
    values.push(...bound);
  };
  const { model, tenant, traceId, requestId, status, worker } = query;
  if (model !== undefined && model.length > 0) {
    add(`model IN (${model.map(() => "?").join(", ")})`, ...model);
  }
  if (tenant !== undefined) add("tenant = ?", tenant);
  if (requestId !== undefined) add("request_id = ?", requestId);
  if (status !== undefined) add("status = ?", statusNumbers[status]);
  if (traceId !== undefined) {
    // "g" follows the last hex digit: all ids that begin so.
    add("trace_id >= ? AND trace_id < ?", traceId, `${traceId}g`);
  }
  if (worker !== undefined) add("instr(workers, ?) > 0", `\n${worker}\n`);
  for (const [key, term] of ranges) {
    const value = query[key];
    if (value !== undefined) add(term, value);
  }
  if (extra !== undefined) add(extra.sql, ...extra.values);
  return {
    sql: terms.length === 0 ? "" : ` WHERE ${terms.join(" AND ")}`,
    values,
  };
}

const orders: Readonly<
  Record<TraceOrder, readonly [column: string, direction: "ASC" | "DESC"]>
> = {
  newest: ["start_ms", "DESC"],
  oldest: ["start_ms", "ASC"],
  slowest: ["duration_ms", "DESC"],
  fastest: ["duration_ms", "ASC"],
};

export function orderOf(
  order: TraceOrder,
): { column: string; direction: string } {
  const [column, direction] = orders[order];
  return { column, direction };
}

/** The place behind a row: by the sorted column, then by id, which never repeats. */
export function cursorOf(order: TraceOrder, value: number, id: number): string {
  return Buffer.from(JSON.stringify([order, value, id])).toString("base64url");
}

export function behind(cursor: string, order: TraceOrder): Where {
  const [column, direction] = orders[order];
  const [value, id] = readCursor(cursor, order);
  const sign = direction === "ASC" ? ">" : "<";
  return { sql: `(${column}, id) ${sign} (?, ?)`, values: [value, id] };
}

function readCursor(cursor: string, order: TraceOrder): [number, number] {
  try {
    const [found, value, id] = JSON.parse(
      Buffer.from(cursor, "base64url").toString(),
    );
    if (
      found === order && Number.isFinite(value) && Number.isSafeInteger(id)
    ) return [value, id];
  } catch {
    // Not one of ours: told below, together with one of another order.
  }
  throw new QueryError(
    "cursor",
    `Cannot go on with the list: needs the nextCursor of a page in the order "${order}", found another text`,
  );
}

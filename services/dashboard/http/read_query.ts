import type {
  SpeculationQuery,
  TraceOrder,
  TraceStatus,
} from "../api_types.ts";
import { type CheckedQuery, QueryError } from "../store/mod.ts";

type Parameters = Readonly<Record<string, readonly string[]>>;
type Reader = (key: string, values: readonly string[]) => unknown;

const text: Reader = (key, values) => {
  const value = one(key, values);
  if (value.length <= 512) return value;
  throw refuse(key, "at most 512 characters", `${value.length}`);
};

const number: Reader = (key, values) => {
  const value = one(key, values);
  const parsed = Number(value);
  if (/^\d+(\.\d+)?$/.test(value) && parsed <= Number.MAX_SAFE_INTEGER) {
    return parsed;
  }
  throw refuse(key, "a number, 0 or more", value);
};

const choice = (choices: readonly string[]): Reader => (key, values) => {
  const value = one(key, values);
  if (choices.includes(value)) return value;
  throw refuse(key, `one of ${choices.join(", ")}`, value);
};

const hexDigits: Reader = (key, values) => {
  const value = one(key, values).toLowerCase();
  if (/^[0-9a-f]{4,32}$/.test(value)) return value;
  throw refuse(key, "4 to 32 hex digits", value);
};

const limit: Reader = (key, values) => {
  const value = Number(number(key, values));
  if (Number.isInteger(value) && value >= 1 && value <= 200) return value;
  throw refuse(key, "a whole number, 1 to 200", `${value}`);
};

const list: Reader = (key, values) => {
  if (values.length > 50) throw refuse(key, "at most 50", `${values.length}`);
  return values.map((value) => text(key, [value]));
};

export const traceStatuses: readonly TraceStatus[] = [
  "ok",
  "error",
  "cancelled",
];
export const traceOrders: readonly TraceOrder[] = [
  "newest",
  "oldest",
  "slowest",
  "fastest",
];

/** One visible table: what may be asked, and how it is read. */
const traceReaders: Readonly<Record<keyof CheckedQuery, Reader>> = {
  model: list,
  tenant: text,
  traceId: hexDigits,
  requestId: text,
  status: choice(traceStatuses),
  durationMsMin: number,
  durationMsMax: number,
  ttftMsMin: number,
  ttftMsMax: number,
  promptTokensMin: number,
  promptTokensMax: number,
  outputTokensMin: number,
  outputTokensMax: number,
  worker: text,
  fromMs: number,
  toMs: number,
  order: choice(traceOrders),
  limit,
  cursor: text,
};

export const traceParameters = Object.keys(traceReaders);

export function readTraceQuery(parameters: Parameters): CheckedQuery {
  return read(parameters, traceReaders) as CheckedQuery;
}

export function readSpeculationQuery(parameters: Parameters): SpeculationQuery {
  const readers = { model: text, fromMs: number, toMs: number };
  return read(parameters, readers) as SpeculationQuery;
}

export function readKinds<K extends string>(
  parameters: Parameters,
  kinds: readonly K[],
): ReadonlySet<K> {
  const readers = {
    kind: (key: string, values: readonly string[]) =>
      values.map((value) => choice(kinds)(key, [value])),
  };
  const { kind } = read(parameters, readers) as { kind?: K[] };
  return new Set(kind ?? kinds);
}

function read(
  parameters: Parameters,
  readers: Readonly<Record<string, Reader>>,
): Record<string, unknown> {
  const query: Record<string, unknown> = {};
  for (const [key, values] of Object.entries(parameters)) {
    if (!Object.hasOwn(readers, key)) {
      throw refuse(key, `one of ${Object.keys(readers).join(", ")}`, key);
    }
    // `?model=&tenant=acme`: what a form with an empty field sends.
    const given = values.filter((value) => value !== "");
    if (given.length > 0) query[key] = readers[key](key, given);
  }
  return query;
}

function one(key: string, values: readonly string[]): string {
  if (values.length === 1) return values[0];
  throw refuse(key, "one value", `${values.length}`);
}

function refuse(key: string, needed: string, found: string): QueryError {
  const name = key.slice(0, 64);
  return new QueryError(
    name,
    `Cannot search: ${name} needs ${needed}, found "${found.slice(0, 64)}"`,
  );
}

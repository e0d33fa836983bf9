/** The filters of the requests page: names in the address, and what they ask of the API. */

export interface FilterField {
  /** Name in the page's address and, unless it is `range`, of the API. */
  readonly name: string;
  readonly label: string;
  readonly kind: "text" | "number" | "choice";
  readonly placeholder?: string;
}

export const ranges = {
  "5m": { label: "5 minutes", ms: 5 * 60_000 },
  "1h": { label: "1 hour", ms: 3_600_000 },
  "24h": { label: "24 hours", ms: 86_400_000 },
  "7d": { label: "7 days", ms: 7 * 86_400_000 },
  all: { label: "all time", ms: Infinity },
} as const;

export type RangeName = keyof typeof ranges;

export const defaultRange: RangeName = "1h";

/** Between two numbers; both ends are optional. */
export const spans = [
  { name: "durationMs", label: "Duration, ms" },
  { name: "ttftMs", label: "First token, ms" },
  { name: "promptTokens", label: "Prompt tokens" },
  { name: "outputTokens", label: "Output tokens" },
] as const;

const plainNames = ["model", "tenant", "traceId", "worker", "status", "order"];
const spanNames = spans.flatMap(({ name }) => [`${name}Min`, `${name}Max`]);
export const filterNames = [...plainNames, ...spanNames, "range"];

/** Filters that narrow the list, `range` and order aside. */
export function activeFilters(query: URLSearchParams): string[] {
  return [...plainNames, ...spanNames].filter((name) =>
    name !== "order" && query.get(name)
  );
}

/** Unknown range names in an address mean the default one. */
export function rangeOf(query: URLSearchParams): RangeName {
  const name = query.get("range") ?? defaultRange;
  return name in ranges ? name as RangeName : defaultRange;
}

/** The query of /api/traces and /api/traces/stats. */
export function apiQuery(query: URLSearchParams, nowMs: number): string {
  const parts = new URLSearchParams();
  for (const name of [...plainNames, ...spanNames]) {
    const value = query.get(name)?.trim();
    if (value) parts.set(name, value);
  }
  const { ms } = ranges[rangeOf(query)];
  if (ms !== Infinity) parts.set("fromMs", String(Math.floor(nowMs - ms)));
  return parts.toString();
}

/** The statistics know no order. */
export function statsQuery(query: URLSearchParams, nowMs: number): string {
  const parts = new URLSearchParams(apiQuery(query, nowMs));
  parts.delete("order");
  return parts.toString();
}

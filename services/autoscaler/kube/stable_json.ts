import { createHash } from "node:crypto";

/** JSON with sorted keys: equal values give equal text. */
export function stableJson(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(stableJson).join(",")}]`;
  if (typeof value !== "object" || value === null) {
    return JSON.stringify(value) ?? "null";
  }
  const entries = Object.entries(value)
    .filter(([, field]) => field !== undefined)
    .sort(([a], [b]) => a < b ? -1 : 1)
    .map(([key, field]) => `${JSON.stringify(key)}:${stableJson(field)}`);
  return `{${entries.join(",")}}`;
}

/** 16 hexadecimal digits that name a value. */
export function hashOf(value: unknown): string {
  return createHash("sha256").update(stableJson(value)).digest("hex")
    .slice(0, 16);
}

import type { Attributes, AttributeValue, Span } from "../api_types.ts";

/** A number that somebody else wrote; `null` when it is none. */
export function numberOf(attributes: Attributes, key: string): number | null {
  const value = own(attributes, key);
  return typeof value === "number" && Number.isFinite(value) ? value : null;
}

/** A text; `null` when it is none or empty. */
export function textOf(attributes: Attributes, key: string): string | null {
  const value = own(attributes, key);
  return typeof value === "string" && value !== "" ? value : null;
}

/** The first text of a list. */
export function firstTextOf(
  attributes: Attributes,
  key: string,
): string | null {
  const value = own(attributes, key);
  if (!Array.isArray(value)) return textOf(attributes, key);
  return typeof value[0] === "string" ? value[0] : null;
}

function own(attributes: Attributes, key: string): AttributeValue | undefined {
  return Object.hasOwn(attributes, key) ? attributes[key] : undefined;
}

export function endOf({ startAtMs, durationMs }: Span): number {
  return startAtMs + durationMs;
}

export function sum(values: readonly (number | null)[]): number | null {
  const known = values.filter((value) => value !== null);
  if (known.length === 0) return null;
  return known.reduce((total, value) => total + value, 0);
}

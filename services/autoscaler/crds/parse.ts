import {
  type ObjectSchema,
  quantityPattern,
  type Schema,
  type SchemaKind,
  sharePattern,
} from "./schema.ts";

/** One thing that is wrong with an object, in words for its author. */
export interface Fault {
  /** `spec.scaling.replicas.max` */
  readonly field: string;
  readonly expected: string;
  readonly found: string;
}

export type Parsed<T> =
  | { readonly kind: "valid"; readonly value: T }
  | { readonly kind: "invalid"; readonly faults: readonly Fault[] };

/**
 * Reads an object by its table: defaults filled in, unknown fields dropped.
 *
 * The API server does the same; this is for servers that an administrator told
 * to skip validation, and for older versions of our own CRDs still installed.
 */
export function parse<T>(
  schema: Schema<T>,
  value: unknown,
  path: string,
): Parsed<T> {
  const faults: Fault[] = [];
  const parsed = read(schema, value, { path, faults });
  return faults.length === 0
    ? { kind: "valid", value: parsed as T }
    : { kind: "invalid", faults };
}

/** `spec.source: expected one of path and url, found neither` */
export function faultText({ field, expected, found }: Fault): string {
  return `${field}: expected ${expected}, found ${found}`;
}

interface Place {
  readonly path: string;
  readonly faults: Fault[];
}

function read(schema: SchemaKind, value: unknown, at: Place): unknown {
  const expected = faultOf(schema, value);
  if (expected !== undefined) {
    at.faults.push({ field: at.path, expected, found: shown(value) });
    return value;
  }
  switch (schema.kind) {
    case "list":
      return (value as unknown[]).map((item, index) =>
        read(schema.items, item, { ...at, path: `${at.path}[${index}]` })
      );
    case "map":
      return Object.fromEntries(
        Object.entries(value as object).map(([key, entry]) => [
          key,
          read(schema.values, entry, { ...at, path: `${at.path}.${key}` }),
        ]),
      );
    case "object":
      return readObject(schema, value as Record<string, unknown>, at);
    default:
      return value;
  }
}

function readObject(
  { fields }: ObjectSchema,
  value: Record<string, unknown>,
  at: Place,
): Record<string, unknown> {
  const result: Record<string, unknown> = {};
  for (const [name, { schema, presence, fallback }] of Object.entries(fields)) {
    const given = Object.hasOwn(value, name) ? value[name] : undefined;
    const path = `${at.path}.${name}`;
    const present = given ?? fallback;
    if (present !== undefined) {
      result[name] = read(schema, present, { ...at, path });
    } else if (presence === "required") {
      at.faults.push({
        field: path,
        expected: expectation(schema),
        found: "nothing",
      });
    }
  }
  return result;
}

/** What was expected, if the value is something else. */
function faultOf(schema: SchemaKind, value: unknown): string | undefined {
  return fits(schema, value) ? undefined : expectation(schema);
}

function fits(schema: SchemaKind, value: unknown): boolean {
  switch (schema.kind) {
    case "text":
      return typeof value === "string" &&
        (schema.choices?.includes(value) ?? true) &&
        (!schema.pattern || new RegExp(schema.pattern).test(value)) &&
        value.length >= (schema.lengthMin ?? 0) &&
        value.length <= (schema.lengthMax ?? Infinity);
    case "integer":
      return Number.isInteger(value) && within(schema, value as number);
    case "number":
      return typeof value === "number" && within(schema, value);
    case "boolean":
      return typeof value === "boolean";
    case "quantity":
      return isIntOr(quantityPattern, value);
    case "countOrShare":
      return isIntOr(sharePattern, value);
    case "list":
      return Array.isArray(value) &&
        value.length <= (schema.countMax ?? Infinity);
    case "any":
      return schema.type === "array" ? Array.isArray(value) : isObject(value);
    case "map":
    case "object":
      return isObject(value);
  }
}

function expectation(schema: SchemaKind): string {
  switch (schema.kind) {
    case "text":
      if (schema.choices) return `one of ${schema.choices.join(", ")}`;
      return schema.expected ??
        (schema.lengthMax
          ? `text of ${schema.lengthMin ?? 0} to ${schema.lengthMax} characters`
          : "text");
    case "integer":
    case "number": {
      const what = schema.kind === "integer" ? "a whole number" : "a number";
      const { min = -Infinity, max = Infinity } = schema;
      if (min === -Infinity && max === Infinity) return what;
      if (max === Infinity) return `${what} of at least ${min}`;
      return `${what} from ${min} to ${max}`;
    }
    case "boolean":
      return "true or false";
    case "quantity":
      return "a quantity such as 500m or 2Gi";
    case "countOrShare":
      return "a whole number or a percentage";
    case "list":
      return schema.countMax === undefined
        ? "a list"
        : `a list of at most ${schema.countMax}`;
    case "any":
      return schema.type === "array" ? "a list" : "an object";
    case "map":
    case "object":
      return "an object";
  }
}

function within(
  { min = -Infinity, max = Infinity }: { min?: number; max?: number },
  value: number,
): boolean {
  return value >= min && value <= max;
}

function isIntOr(pattern: string, value: unknown): boolean {
  if (typeof value === "number") return Number.isInteger(value) && value >= 0;
  return typeof value === "string" && new RegExp(pattern).test(value);
}

function isObject(value: unknown): value is object {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** The value as its author wrote it, cut where it is long. */
function shown(value: unknown): string {
  const text = JSON.stringify(value) ?? "nothing";
  return text.length > 80 ? `${text.slice(0, 77)}...` : text;
}

/**
 * Tables of what a custom resource may hold.
 *
 * One table is the source of three things that must not drift apart: the
 * TypeScript type (`Infer`), the structural schema that the API server enforces
 * (`open_api.ts`), and the reading of an object by the controller with defaults
 * filled in and every fault named (`parse.ts`). The docs are printed from it too.
 */
export type Schema<T = unknown> = SchemaKind & { readonly [valueType]?: T };

/** Carries the type of a schema's values; never present at run time. */
declare const valueType: unique symbol;

export type SchemaKind =
  | TextSchema
  | NumberSchema
  | BooleanSchema
  | QuantitySchema
  | CountOrShareSchema
  | ListSchema
  | MapSchema
  | ObjectSchema
  | AnySchema;

interface Described {
  /** One or two sentences, with unit and reason; ends up in `kubectl explain`. */
  readonly description: string;
}

export interface TextSchema extends Described {
  readonly kind: "text";
  readonly choices?: readonly string[];
  readonly pattern?: string;
  /** What the pattern means, for people: "64 hexadecimal digits". */
  readonly expected?: string;
  readonly lengthMin?: number;
  readonly lengthMax?: number;
  readonly format?: "date-time";
}

export interface NumberSchema extends Described {
  readonly kind: "integer" | "number";
  readonly min?: number;
  readonly max?: number;
  /** Bits of an integer; 32 unless set. */
  readonly wide?: boolean;
}

export interface BooleanSchema extends Described {
  readonly kind: "boolean";
}

/** A Kubernetes quantity such as `500m` or `2Gi`, written as text or as a number. */
export interface QuantitySchema extends Described {
  readonly kind: "quantity";
}

/** `1` or `25%`. */
export interface CountOrShareSchema extends Described {
  readonly kind: "countOrShare";
}

export interface ListSchema extends Described {
  readonly kind: "list";
  readonly items: SchemaKind;
  readonly countMax?: number;
  /** Fields that name an entry, so that several writers may own entries of one list. */
  readonly keys?: readonly string[];
  /** Entries are unique and unordered. */
  readonly set?: boolean;
}

export interface MapSchema extends Described {
  readonly kind: "map";
  readonly values: SchemaKind;
}

export interface ObjectSchema extends Described {
  readonly kind: "object";
  readonly fields: Readonly<Record<string, Field>>;
}

/** Handed on as it is: parts of the Pod API that we do not repeat here. */
export interface AnySchema extends Described {
  readonly kind: "any";
  readonly type: "object" | "array";
}

type Presence = "required" | "optional" | "defaulted";

export interface Field<T = unknown, P extends Presence = Presence> {
  readonly schema: Schema<T>;
  readonly presence: P;
  readonly fallback?: unknown;
}

/** The TypeScript type of a schema's values, after defaults. */
export type Infer<S> = S extends { readonly [valueType]?: infer T }
  ? Exclude<T, undefined>
  : never;

type Fields = Readonly<Record<string, Field>>;
type Given<F extends Fields> = {
  readonly [
    K in keyof F as F[K] extends Field<unknown, "optional"> ? never : K
  ]: F[K] extends Field<infer T> ? T : never;
};
type Optional<F extends Fields> = {
  readonly [
    K in keyof F as F[K] extends Field<unknown, "optional"> ? K : never
  ]?: F[K] extends Field<infer T> ? T : never;
};
type Flat<T> = { readonly [K in keyof T]: T[K] };

export const text = (rest: Omit<TextSchema, "kind" | "choices">): Schema<
  string
> => ({ kind: "text", ...rest });

export const choice = <const C extends readonly string[]>(
  choices: C,
  rest: Described,
): Schema<C[number]> => ({ kind: "text", choices, ...rest });

export const integer = (rest: Omit<NumberSchema, "kind">): Schema<number> => ({
  kind: "integer",
  ...rest,
});

export const number = (rest: Omit<NumberSchema, "kind">): Schema<number> => ({
  kind: "number",
  ...rest,
});

export const boolean = (rest: Described): Schema<boolean> => ({
  kind: "boolean",
  ...rest,
});

export const quantity = (rest: Described): Schema<string | number> => ({
  kind: "quantity",
  ...rest,
});

export const countOrShare = (rest: Described): Schema<string | number> => ({
  kind: "countOrShare",
  ...rest,
});

export const list = <T>(
  items: Schema<T>,
  rest: Omit<ListSchema, "kind" | "items">,
): Schema<readonly T[]> => ({ kind: "list", items, ...rest });

export const map = <T>(
  values: Schema<T>,
  rest: Described,
): Schema<Readonly<Record<string, T>>> => ({ kind: "map", values, ...rest });

export const object = <F extends Fields>(
  fields: F,
  rest: Described,
): Schema<Flat<Given<F> & Optional<F>>> => ({
  kind: "object",
  fields,
  ...rest,
});

export const anyObject = (
  rest: Described,
): Schema<Readonly<Record<string, unknown>>> => ({
  kind: "any",
  type: "object",
  ...rest,
});

export const anyList = (rest: Described): Schema<readonly unknown[]> => ({
  kind: "any",
  type: "array",
  ...rest,
});

export const required = <T>(schema: Schema<T>): Field<T, "required"> => ({
  schema,
  presence: "required",
});

export const optional = <T>(schema: Schema<T>): Field<T, "optional"> => ({
  schema,
  presence: "optional",
});

/** Filled in by the API server when absent, and by the controller where a server did not. */
export const defaulted = <T>(
  schema: Schema<T>,
  fallback: T | Record<string, never>,
): Field<T, "defaulted"> => ({ schema, presence: "defaulted", fallback });

/** What the API server accepts as a quantity. */
export const quantityPattern =
  "^(\\+|-)?(([0-9]+(\\.[0-9]*)?)|(\\.[0-9]+))(([KMGTPE]i)|[numkMGTPE]|([eE](\\+|-)?(([0-9]+(\\.[0-9]*)?)|(\\.[0-9]+))))?$";

export const sharePattern = "^(100|[1-9]?[0-9])%$";

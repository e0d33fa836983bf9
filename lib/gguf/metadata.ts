import { Code, MeshError } from "../errors/mesh_error.ts";
import { StringList } from "./string_list.ts";
import type { GgufMetadata, GgufValue } from "./types.ts";

/** Typed look-ups over the values of one file, or of a table made in memory. */
export function createMetadata(
  path: string,
  values: ReadonlyMap<string, GgufValue | StringList>,
): GgufMetadata {
  function find(key: string): GgufValue | undefined {
    const value = values.get(key);
    return value instanceof StringList ? value.texts() : value;
  }

  function lookUp<T>(
    key: string,
    needed: string,
    accept: (value: GgufValue) => T | undefined,
    fallback: T | undefined,
  ): T {
    const value = find(key);
    if (value === undefined) {
      if (fallback !== undefined) return fallback;
      throw wrong(key, needed, "no such key");
    }
    const accepted = accept(value);
    if (accepted === undefined) throw wrong(key, needed, describe(value));
    return accepted;
  }

  function wrong(key: string, needed: string, found: string): MeshError {
    return new MeshError(
      Code.invalidArgument,
      `Cannot use GGUF file "${path}": key "${key}": expected ${needed}, found ${found}`,
    );
  }

  return {
    keys: [...values.keys()],
    get: find,
    string: (key: string, fallback?: string) =>
      lookUp(
        key,
        "a string",
        (v) => typeof v === "string" ? v : undefined,
        fallback,
      ),
    integer: (key, fallback) =>
      lookUp(key, "an integer below 2^53", asInteger, fallback),
    number: (key, fallback) =>
      lookUp(
        key,
        "a number",
        (v) => typeof v === "number" ? v : asInteger(v),
        fallback,
      ),
    boolean: (key, fallback) =>
      lookUp(
        key,
        "a boolean",
        (v) => typeof v === "boolean" ? v : undefined,
        fallback,
      ),
    strings: (key: string, fallback?: readonly string[]) =>
      lookUp(key, "an array of strings", asStrings, fallback),
  };
}

function asInteger(value: GgufValue): number | undefined {
  const number = typeof value === "bigint" ? Number(value) : value;
  return Number.isSafeInteger(number) ? number as number : undefined;
}

function asStrings(value: GgufValue): readonly string[] | undefined {
  if (!Array.isArray(value)) return undefined;
  return value.length === 0 || typeof value[0] === "string"
    ? value as string[]
    : undefined;
}

/** A value in few words, for error messages. */
function describe(value: GgufValue): string {
  if (typeof value === "string") {
    return `the string ${JSON.stringify(value.slice(0, 40))}`;
  }
  if (typeof value !== "object") return `the ${typeof value} ${value}`;
  const kind = Array.isArray(value)
    ? `${typeof value[0]}s`
    : value.constructor.name;
  return `an array of ${value.length} (${kind})`;
}

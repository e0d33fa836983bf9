import type { z } from "zod";
import { Code } from "../../../lib/errors/mesh_error.ts";
import { RequestError } from "./request_error.ts";

/** Checks a value from outside; the error names the first field at fault as the caller wrote it. */
export function check<S extends z.ZodType>(
  schema: S,
  value: unknown,
): z.output<S> {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  throw refusal(deepest(result.error.issues, []));
}

type Issue = z.core.$ZodIssue;
type Found = { readonly issue: Issue; readonly path: readonly PropertyKey[] };

/** Of a union's complaints, the one that got furthest into the value. */
function deepest(
  issues: readonly Issue[],
  above: readonly PropertyKey[],
): Found {
  const issue = issues[0];
  const path = [...above, ...issue.path];
  if (issue.code !== "invalid_union") return { issue, path };
  const inner = issue.errors.filter((errors) => errors.length > 0)
    .map((errors) => deepest(errors, path))
    .sort((a, b) => b.path.length - a.path.length);
  return inner[0] ?? { issue, path };
}

function refusal({ issue, path }: Found): RequestError {
  if (issue.code === "unrecognized_keys") {
    const field = fieldName([...path, issue.keys[0]]);
    return new RequestError(
      Code.invalidArgument,
      `Cannot accept the field "${field}": it is unknown here, and ignoring it could change the answer`,
      { field, reason: "unknown_field" },
    );
  }
  const field = fieldName(path);
  const unsupported = issue.code === "custom" &&
    issue.params?.unsupported === true;
  return new RequestError(
    Code.invalidArgument,
    field === ""
      ? `Cannot accept the request: ${issue.message}`
      : `Cannot accept "${field}": ${issue.message}`,
    { field, reason: unsupported ? "unsupported_field" : "invalid_value" },
  );
}

/** `messages[2].role`; long keys of hostile bodies are cut. */
function fieldName(path: readonly PropertyKey[]): string {
  let name = "";
  for (const step of path) {
    if (typeof step === "number") name += `[${step}]`;
    else name += `${name === "" ? "" : "."}${String(step).slice(0, 100)}`;
  }
  return name.slice(0, 300).toWellFormed();
}

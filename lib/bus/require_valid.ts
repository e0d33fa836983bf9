import type { z } from "zod";
import { Code, MeshError } from "../errors/mesh_error.ts";

/** The checked copy of what a caller wants to send; a fault is the caller's to see. */
export function requireValid<T>(
  what: string,
  schema: z.ZodType<T>,
  value: unknown,
): T {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const [issue] = result.error.issues;
  const field = issue.path.join(".");
  throw new MeshError(
    Code.invalidArgument,
    `Cannot publish a ${what}: ${field || "it"}: ${issue.message}`,
    { field },
  );
}

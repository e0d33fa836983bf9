import { equal } from "node:assert/strict";
import { test } from "vitest";
import { Code, MeshError } from "./mesh_error.ts";

test("from() keeps a MeshError and wraps anything else as internal", () => {
  const full = new MeshError(Code.resourceExhausted, "Cannot admit: full");
  equal(MeshError.from(full), full);
  const wrapped = MeshError.from("boom");
  equal(wrapped.code, Code.internal);
  equal(wrapped.message, "boom");
});

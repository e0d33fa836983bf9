import { deepEqual } from "node:assert/strict";
import * as conventions from "@opentelemetry/semantic-conventions/incubating";
import { test } from "vitest";
import { GenAiOperation, Keys } from "./attributes.ts";

const known = new Set<unknown>(Object.values(conventions));

test("every attribute outside quetzal.* is a name of the conventions", () => {
  const ours = Object.values(Keys).filter((key) => !key.startsWith("quetzal."));
  deepEqual(ours.filter((key) => !known.has(key)), []);
});

test("operations are those of the conventions", () => {
  deepEqual(
    Object.values(GenAiOperation).filter((name) => !known.has(name)),
    [],
  );
});

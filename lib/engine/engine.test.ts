import { deepEqual, equal, ok, rejects } from "node:assert/strict";
import { test } from "vitest";
import { Code } from "../errors/mesh_error.ts";
import { createToyEngine, promptOf, run } from "./testing/sequences.ts";

test("generate() tells start, tokens and end", async () => {
  await using toy = createToyEngine().engine;
  const outcome = await run(toy, { prompt: promptOf(40), maxTokens: 5 });
  equal(outcome.ids.length, 5);
  equal(outcome.started.computedTokens, 40);
  equal(outcome.finished.reason, "length");
});

test("the same prompt again is found in the prefix cache", async () => {
  await using toy = createToyEngine().engine;
  const first = await run(toy, { prompt: promptOf(40) });
  const second = await run(toy, { prompt: promptOf(40) });
  deepEqual(second.ids, first.ids);
  equal(second.started.cachedTokens, 32);
});

test("an empty prompt is refused with its field", async () => {
  await using toy = createToyEngine().engine;
  await rejects(run(toy, { prompt: [] }), {
    code: Code.invalidArgument,
    field: "promptIds",
  });
  ok(true);
});

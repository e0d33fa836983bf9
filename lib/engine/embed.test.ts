/** `embed()` on the toy model, whose hidden states depend on every token's KV. */
import { deepEqual, equal, ok, rejects } from "node:assert/strict";
import { test } from "vitest";
import { Code, MeshError } from "../errors/mesh_error.ts";
import {
  createToyEngine,
  promptOf,
  run,
  type ToyEngineOptions,
} from "./testing/sequences.ts";
import type { Engine } from "./types.ts";

const { signal } = new AbortController();

function embed(engine: Engine, promptIds: Int32Array, requestId = "e") {
  return engine.embed({ requestId, promptIds }, { signal });
}

async function valuesOf(
  prompt: Int32Array,
  options: ToyEngineOptions = {},
): Promise<number[]> {
  await using engine = createToyEngine(options).engine;
  return [...(await embed(engine, prompt)).values];
}

test("embed() gives the same values however the prompt is cut", async () => {
  const prompt = promptOf(75);
  const whole = await valuesOf(prompt, { rowsMax: 80 });
  equal(whole.length, 4);
  deepEqual(await valuesOf(prompt, { rowsMax: 8 }), whole);
  deepEqual(await valuesOf(prompt, { chainsSteps: true }), whole);
});

test("embed() uses cached blocks and computes the last token always", async () => {
  const { engine, model } = createToyEngine({ rowsMax: 80 });
  await using _ = engine;
  const prompt = promptOf(64);
  const first = await embed(engine, prompt);
  deepEqual([first.cachedTokens, first.computedTokens], [0, 64]);
  const steps = model.stepCount;
  const second = await embed(engine, prompt);
  // The whole prompt is cached; its last block is computed for the last token.
  deepEqual([second.cachedTokens, second.computedTokens], [48, 16]);
  equal(model.stepCount - steps, 1);
  deepEqual(second.values, first.values);
});

test("embed() leaves blocks that a generation goes on with, and the other way round", async () => {
  await using toy = createToyEngine().engine;
  const prompt = promptOf(40);
  await embed(toy, prompt);
  equal((await run(toy, { prompt })).started.cachedTokens, 32);
  equal((await embed(toy, prompt)).cachedTokens, 32);
  equal(toy.status().blocksFree, 64);
});

for (const chainsSteps of [false, true]) {
  test(`embed() beside running sequences changes neither (steps ahead: ${chainsSteps})`, async () => {
    const prompts = [3, 17, 33, 64, 90].map((count, i) =>
      promptOf(count, i + 2)
    );
    const embeddings = await Promise.all(
      prompts.map((prompt) => valuesOf(prompt)),
    );
    const answers = await Promise.all(
      prompts.map(async (prompt) => {
        await using alone = createToyEngine().engine;
        return (await run(alone, { prompt })).ids;
      }),
    );
    await using toy = createToyEngine({
      chainsSteps,
      rowsMax: 16,
      kvBlocks: 40,
    }).engine;
    const generating = prompts.map((prompt) => run(toy, { prompt }));
    const embedding = prompts.map((prompt) => embed(toy, prompt));
    deepEqual(
      (await Promise.all(embedding)).map(({ values }) => [...values]),
      embeddings,
    );
    deepEqual(
      (await Promise.all(generating)).map(({ ids }) => ids),
      answers,
    );
    equal(toy.status().blocksFree, 40);
  });
}

test("a preempted embedding is computed again, to the same values", async () => {
  const prompt = promptOf(100, 9);
  const expected = await valuesOf(prompt);
  let waitingMax = 0;
  // It gets one row of each step, and the older one grows into its blocks meanwhile.
  const { engine } = createToyEngine({
    kvBlocks: 10,
    rowsMax: 2,
    runningMax: 2,
    onStep: () => {
      waitingMax = Math.max(waitingMax, engine.status().waiting);
    },
  });
  await using _ = engine;
  const older = run(engine, { prompt: promptOf(30, 3), maxTokens: 60 });
  const { values } = await embed(engine, prompt);
  deepEqual([...values], expected);
  equal((await older).ids.length, 60);
  equal(waitingMax, 1);
});

test("the values are the caller's own", async () => {
  await using toy = createToyEngine().engine;
  const [one, other] = await Promise.all([
    embed(toy, promptOf(5, 1)),
    embed(toy, promptOf(5, 2)),
  ]);
  ok(one.values.buffer !== other.values.buffer);
  equal(one.values.buffer.byteLength, 16);
});

const refusals: [string, Int32Array, string][] = [
  ["an empty prompt", new Int32Array(0), "promptIds"],
  ["an id outside the vocabulary", Int32Array.of(1, 97), "promptIds[1]"],
  ["a negative id", Int32Array.of(-1), "promptIds[0]"],
  ["more than the context", promptOf(513), "promptIds"],
];

test.for(refusals)("embed() refuses %s", async ([_, prompt, field]) => {
  await using toy = createToyEngine().engine;
  await rejects(embed(toy, prompt), { code: Code.invalidArgument, field });
});

test("embed() takes a prompt that fills the context", async () => {
  equal((await valuesOf(promptOf(512))).length, 4);
});

test("an aborted embedding rejects with the reason and frees its blocks", async () => {
  const controller = new AbortController();
  await using toy = createToyEngine({
    rowsMax: 8,
    onStep: () => controller.abort(new Error("left")),
  }).engine;
  const running = toy.embed(
    { requestId: "e", promptIds: promptOf(400) },
    { signal: controller.signal },
  );
  await rejects(running, /left/);
  await new Promise((resolve) => setTimeout(resolve, 5));
  equal(toy.status().blocksFree, 64);
});

test("a failed step ends its embeddings with the cause", async () => {
  let failing = true;
  await using toy = createToyEngine({
    onStep: () => {
      if (failing) throw new Error("no logits");
    },
  }).engine;
  await rejects(
    embed(toy, promptOf(5)),
    (error) => error instanceof MeshError && /no logits/.test(error.message),
  );
  failing = false;
  equal((await embed(toy, promptOf(5))).values.length, 4);
});

test("a full waiting queue refuses with a time to try again", async () => {
  await using toy = createToyEngine({ runningMax: 1, waitingMax: 1 }).engine;
  const all = [1, 2, 3].map((seed) => embed(toy, promptOf(40, seed)));
  const outcomes = await Promise.allSettled(all);
  const refused = outcomes.filter(({ status }) => status === "rejected");
  equal(refused.length, 2);
  equal((refused[0] as PromiseRejectedResult).reason.retryAfterMs, 1000);
});

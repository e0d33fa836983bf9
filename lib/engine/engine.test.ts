import { deepEqual, equal, ok, rejects } from "node:assert/strict";
import { test } from "vitest";
import { Code } from "../errors/mesh_error.ts";
import { blockHashes } from "./block_hash.ts";
import { createToyEngine, promptOf, run, spec } from "./testing/sequences.ts";

/** Rejections that the test awaits later must not count as unhandled. */
function watched<T>(promise: Promise<T>): Promise<T> {
  promise.catch(() => {});
  return promise;
}

/** Until `condition` holds, at most a second of event-loop turns. */
async function until(condition: () => boolean): Promise<void> {
  const end = performance.now() + 1000;
  while (!condition()) {
    ok(performance.now() < end, "the condition did not come about");
    await new Promise((resolve) => setImmediate(resolve));
  }
}

test("generate() tells start, tokens and end", async () => {
  await using toy = createToyEngine().engine;
  const outcome = await run(toy, { prompt: promptOf(40), maxTokens: 5 });
  equal(outcome.ids.length, 5);
  equal(outcome.started.computedTokens, 40);
  deepEqual(outcome.finished, {
    kind: "finished",
    reason: "length",
    stopTokenId: undefined,
    preemptions: 0,
  });
});

test("the same prompt again is found in the prefix cache", async () => {
  await using toy = createToyEngine().engine;
  const first = await run(toy, { prompt: promptOf(40) });
  const second = await run(toy, { prompt: promptOf(40) });
  deepEqual(second.ids, first.ids);
  equal(second.started.cachedTokens, 32);
  equal(second.started.computedTokens, 8);
});

test("refusals name the field", async () => {
  await using toy = createToyEngine({ kvBlocks: 4 }).engine;
  const cases: [string, Parameters<typeof run>[1]][] = [
    ["promptIds", { prompt: [] }],
    ["promptIds[1]", { prompt: [0, 97] }],
    ["promptIds", { prompt: promptOf(513) }],
    ["promptIds", { prompt: promptOf(60), maxTokens: 6 }],
    ["emittedIds[0]", { prompt: [0], emitted: [-1] }],
    ["maxTokens", { prompt: [0], emitted: [1, 2], maxTokens: 2 }],
    ["sampling.temperature", { prompt: [0], sampling: { temperature: NaN } }],
    ["sampling.topP", { prompt: [0], sampling: { topP: 1.5 } }],
    ["sampling.topK", { prompt: [0], sampling: { topK: -1 } }],
    ["sampling.repetitionPenalty", {
      prompt: [0],
      sampling: { repetitionPenalty: 0 },
    }],
    ["sampling.topLogprobs", { prompt: [0], sampling: { topLogprobs: 21 } }],
    ["sampling.logitBias[97]", {
      prompt: [0],
      sampling: { logitBias: new Map([[97, 1]]) },
    }],
    ["sampling.stopIds", { prompt: [0], sampling: { stopIds: [97] } }],
  ];
  for (const [field, parts] of cases) {
    await rejects(
      run(toy, parts),
      { code: Code.invalidArgument, field },
      field,
    );
  }
  equal((await run(toy, { prompt: promptOf(60), maxTokens: 5 })).ids.length, 5);
});

test("generation ends at the context length", async () => {
  await using toy = createToyEngine({ contextLength: 48 }).engine;
  const { ids, finished } = await run(toy, {
    prompt: promptOf(40),
    maxTokens: 100,
  });
  equal(ids.length, 8);
  equal(finished.reason, "length");
  equal((await run(toy, { prompt: promptOf(48), maxTokens: 9 })).ids.length, 1);
});

test("a full waiting queue answers at once and says when to come back", async () => {
  const gate = Promise.withResolvers<void>();
  await using toy = createToyEngine({
    runningMax: 1,
    waitingMax: 1,
    onStep: () => gate.promise,
  }).engine;
  const first = run(toy, { prompt: [1] });
  await until(() => toy.status().running === 1);
  const second = run(toy, { prompt: [2] });
  await rejects(
    run(toy, { prompt: [3] }),
    (error: { code: number; retryAfterMs: number }) => {
      equal(error.code, Code.resourceExhausted);
      ok(error.retryAfterMs > 0);
      return true;
    },
  );
  gate.resolve();
  equal((await first).ids.length + (await second).ids.length, 32);
});

test("an aborted sequence throws the reason and has no blocks a step later", async () => {
  const { engine: toy, model } = createToyEngine();
  await using _ = toy;
  const controller = new AbortController();
  const aborted = watched(
    run(toy, { prompt: promptOf(40), maxTokens: 400 }, controller),
  );
  const other = run(toy, { prompt: promptOf(40, 2), maxTokens: 60 });
  await until(() => model.stepCount > 5);
  const steps = model.stepCount;
  const reason = new Error("the client left");
  controller.abort(reason);
  await rejects(aborted, reason);
  await until(() => toy.status().running === 1);
  ok(model.stepCount <= steps + 1);
  equal((await other).ids.length, 60);
  equal(toy.status().blocksFree, 64);
});

test("an aborted signal stops a waiting sequence and one that never began", async () => {
  const gate = Promise.withResolvers<void>();
  await using toy = createToyEngine({
    runningMax: 1,
    onStep: () => gate.promise,
  }).engine;
  const first = run(toy, { prompt: [1] });
  await until(() => toy.status().running === 1);
  const controller = new AbortController();
  const waiting = watched(run(toy, { prompt: [2] }, controller));
  await until(() => toy.status().waiting === 1);
  controller.abort(new Error("left"));
  equal(toy.status().waiting, 0);
  await rejects(waiting, /left/);
  await rejects(
    run(toy, { prompt: [3] }, { signal: AbortSignal.abort("gone") }),
    (reason) => reason === "gone",
  );
  gate.resolve();
  await first;
});

test("a reader that leaves early cancels its sequence", async () => {
  await using toy = createToyEngine().engine;
  const { signal } = new AbortController();
  for await (
    const event of toy.generate(
      spec({ prompt: promptOf(20), maxTokens: 400 }),
      { signal },
    )
  ) {
    if (event.kind === "tokens") break;
  }
  await until(() => toy.status().running === 0);
  equal(toy.status().blocksFree, 64);
});

test("run() tells the same events as generate(), and resolves behind the last", async () => {
  await using toy = createToyEngine().engine;
  const { signal } = new AbortController();
  const parts = { prompt: promptOf(20), maxTokens: 4 };
  const read: string[] = [];
  for await (const { kind } of toy.generate(spec(parts), { signal })) {
    read.push(kind);
  }
  const told: string[] = [];
  await toy.run(spec(parts), {
    signal,
    onEvent: ({ kind }) => told.push(kind),
  });
  deepEqual(told, read);
  equal(told.at(-1), "finished");
});

test("what a reader of run() throws ends its own sequence only", async () => {
  await using toy = createToyEngine().engine;
  const { signal } = new AbortController();
  const other = run(toy, { prompt: promptOf(20, 2), maxTokens: 30 });
  let count = 0;
  const broken = toy.run(spec({ prompt: promptOf(20), maxTokens: 30 }), {
    signal,
    onEvent() {
      if (++count === 5) throw new Error("the reader broke");
    },
  });
  await rejects(broken, { message: "the reader broke" });
  equal((await other).ids.length, 30);
  equal(count, 5);
  await until(() => toy.status().running === 0);
});

test("a sequence that is started by the last word of another one runs", async () => {
  await using toy = createToyEngine().engine;
  const { signal } = new AbortController();
  const parts = { prompt: promptOf(20), maxTokens: 3 };
  let second: Promise<void> | undefined;
  const kinds: string[] = [];
  await toy.run(spec(parts), {
    signal,
    onEvent({ kind }) {
      if (kind !== "finished") return;
      second = toy.run(spec(parts), {
        signal,
        onEvent: (event) => kinds.push(event.kind),
      });
    },
  });
  await second;
  deepEqual(kinds, ["started", "tokens", "tokens", "tokens", "finished"]);
});

test("a failed step ends its sequences; the engine goes on", async () => {
  let broken = true;
  await using toy = createToyEngine({
    onStep: () => {
      if (broken) throw new Error("out of luck");
    },
  }).engine;
  const both = [1, 2].map((id) =>
    watched(run(toy, { prompt: [id], requestId: `s${id}` }))
  );
  for (const one of both) {
    await rejects(one, {
      code: Code.internal,
      message: /its step failed: out of luck/,
    });
  }
  broken = false;
  equal((await run(toy, { prompt: [1] })).ids.length, 16);
  equal(toy.status().blocksFree, 64);
});

test("dispose ends what runs and waits with unavailable, then closes the model", async () => {
  const { engine, model } = createToyEngine({ runningMax: 1 });
  const both = [1, 2].map((id) =>
    watched(run(engine, { prompt: [id], maxTokens: 400 }))
  );
  await until(() => engine.status().waiting === 1);
  await engine[Symbol.asyncDispose]();
  for (const one of both) await rejects(one, { code: Code.unavailable });
  equal(model.closed, true);
  await rejects(run(engine, { prompt: [1] }), { code: Code.unavailable });
});

test("a decoding sequence runs beside a long prompt", async () => {
  const { engine: toy, model } = createToyEngine({ rowsMax: 16 });
  await using _ = toy;
  const short = run(toy, { prompt: promptOf(4), maxTokens: 30 });
  const long = run(toy, { prompt: promptOf(400, 2), maxTokens: 1 });
  await short;
  ok(model.stepCount < 35, `${model.stepCount} steps`);
  await long;
});

test("cache changes add up to cachedHashes(), named as the router names them", async () => {
  await using toy = createToyEngine({ kvBlocks: 12 }).engine;
  const known = new Set<string>();
  using _ = toy.onCacheChange(({ stored, removed }) => {
    for (const hash of removed) known.delete(hash);
    for (const hash of stored) known.add(hash);
  });
  for (let i = 1; i < 10; i++) await run(toy, { prompt: promptOf(50, i) });
  const prompt = promptOf(50, 10);
  await run(toy, { prompt });
  await until(() => known.has(blockHashes("toy", prompt)[2]));
  deepEqual([...known].sort(), [...toy.cachedHashes()].sort());
  ok(known.size <= 12);
});

test("each step is reported once, with its tokens and the preemptions before it", async () => {
  await using toy = createToyEngine({ kvBlocks: 8 }).engine;
  const total = { steps: 0, tokens: 0, preemptions: 0 };
  using _ = toy.onStep(({ tokens, preemptions }) => {
    total.steps++;
    total.tokens += tokens;
    total.preemptions += preemptions;
  });
  await run(toy, { prompt: promptOf(20), maxTokens: 6 });
  // The prompt's step chooses the first token, and the last one is not computed.
  deepEqual(total, { steps: 6, tokens: 25, preemptions: 0 });

  // Two that do not fit together, of which the one that had to give way is aborted.
  const controller = new AbortController();
  const old = run(toy, { prompt: promptOf(40, 2), maxTokens: 60 });
  const young = watched(
    run(toy, { prompt: promptOf(40, 3), maxTokens: 60 }, {
      signal: controller.signal,
    }),
  );
  await until(() => total.preemptions > 0);
  controller.abort(new Error("gone"));
  await rejects(young);
  await old;
  ok(total.preemptions >= 1);
});

test("status() counts running and waiting, and how fast the work goes while there is any", async () => {
  await using toy = createToyEngine({}).engine;
  deepEqual(toy.status().decodeTokensPerS, 0);
  // Each step of the toy takes 1 us: one token then, or as many as its prompt has.
  await run(toy, { prompt: promptOf(100), maxTokens: 51 });
  const status = toy.status();
  equal(status.running + status.waiting, 0);
  equal(status.blocksTotal, 64);
  equal(Math.round(status.decodeTokensPerS), 1e6);
  ok(status.prefillTokensPerS >= 10e6, `${status.prefillTokensPerS}`);
});

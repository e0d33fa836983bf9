/** The demo model on native code: remote prefill changes no token of its answers. */
import { deepEqual, equal, ok } from "node:assert/strict";
import { join } from "node:path";
import { afterAll, beforeAll, test } from "vitest";
import { createEngine, type Engine } from "../../../lib/engine/mod.ts";
import { readGguf } from "../../../lib/gguf/mod.ts";
import { createTokenizer } from "../../../lib/tokenizer/mod.ts";
import {
  generate,
  type Outcome,
  type Pair,
  requestOf,
  sampling,
  startPair,
} from "./start_pair.ts";

const gguf = readGguf(
  join(import.meta.dirname!, "../../../models/quetzal-demo-q8_0.gguf"),
);
const tokenizer = createTokenizer(gguf.metadata);
const text = "<|im_start|>user\n" +
  "Here is what happened before. Pip the fox lived near a quiet river and liked to count. "
    .repeat(12) +
  "Tell me a story about a fox named Pip.<|im_end|>\n<|im_start|>assistant\n";

/** The last `count` tokens of a chat, behind some that tell cases apart. */
function prompt(count: number, salt = 0): number[] {
  const ids = [...tokenizer.encode(text, { parseSpecial: true })];
  const tail = ids.slice(ids.length - count);
  return tail.with(0, 300 + salt);
}

const undo = new AsyncDisposableStack();
let pair: Pair;
/** The same request without a prefill worker, on an engine that has seen nothing yet. */
let alone: Pair;

beforeAll(async () => {
  const engine = async (): Promise<Record<string, Engine>> => ({
    demo: undo.use(await createEngine({ gguf, threads: 1, kvBlocks: 128 })),
  });
  const start = async () =>
    undo.use(
      await startPair({
        prefillEngines: await engine(),
        decodeEngines: await engine(),
        endIds: tokenizer.endIds,
        transport: { stallMs: 10_000 },
      }),
    );
  [pair, alone] = [await start(), await start()];
});
afterAll(() => undo.disposeAsync());

async function both(
  promptIds: number[],
  values: Parameters<typeof sampling>[0] = {},
) {
  const request = requestOf({
    model: "demo",
    promptIds,
    maxTokens: 24,
    sampling: sampling(values),
  });
  const remote = await generate(pair, {
    ...request,
    prefillAddress: pair.prefill.address,
  });
  const local = await generate(alone, request);
  equal(remote.error, undefined);
  equal(local.error, undefined);
  return { remote, local };
}

function same({ remote, local }: { remote: Outcome; local: Outcome }): void {
  deepEqual(remote.ids, local.ids);
  deepEqual(remote.finished, local.finished);
  ok(remote.ids.length > 0);
}

for (const count of [1, 15, 16, 17, 200]) {
  test(`a prompt of ${count} tokens gives the same ids with remote prefill`, async () => {
    const outcome = await both(prompt(count, count));
    same(outcome);
    equal(outcome.remote.started?.transferredTokens, count);
    deepEqual(pair.observer.failures, []);
  });
}

test("sampled answers draw the same ids", async () => {
  same(await both(prompt(90, 7), { temperature: 0.9, seed: 77n, topP: 0.95 }));
});

test("a prefix that both sides hold comes from the cache, the rest over the wire", async () => {
  const long = prompt(150, 9);
  await both(long.slice(0, 100));
  const outcome = await both(long);
  same(outcome);
  equal(outcome.remote.started?.cachedTokens, 96);
  equal(outcome.remote.started?.transferredTokens, 54);
});

test("a prefix that only prefill holds is transferred", async () => {
  const ids = prompt(140, 11);
  await generate(pair, {
    ...requestOf({ model: "demo", promptIds: ids, maxTokens: 1 }),
    prefillAddress: pair.prefill.address,
  });
  const other = undo.use(
    await createEngine({ gguf, threads: 1, kvBlocks: 64 }),
  );
  const fresh = undo.use(
    await startPair({
      prefillEngines: { demo: pair.prefill.models.get("demo").engine },
      decodeEngines: { demo: other },
      endIds: tokenizer.endIds,
    }),
  );
  const request = requestOf({ model: "demo", promptIds: ids, maxTokens: 24 });
  const remote = await generate(fresh, {
    ...request,
    prefillAddress: fresh.prefill.address,
  });
  equal(remote.started?.transferredTokens, 140);
  deepEqual(remote.ids, (await generate(alone, request)).ids);
});

test("a replay from the middle goes on with the same ids", async () => {
  const request = requestOf({
    model: "demo",
    promptIds: prompt(60, 13),
    maxTokens: 24,
  });
  const whole = await generate(alone, request);
  const replay = await generate(pair, {
    ...request,
    emittedIds: whole.ids.slice(0, 10),
    prefillAddress: pair.prefill.address,
  });
  deepEqual(replay.ids, whole.ids.slice(10));
  equal(replay.started?.transferredTokens, 70);
});

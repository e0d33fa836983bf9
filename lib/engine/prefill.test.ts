import {
  deepEqual,
  equal,
  notDeepEqual,
  rejects,
  throws,
} from "node:assert/strict";
import { test } from "vitest";
import { createToyEngine, promptOf, run, spec } from "./testing/sequences.ts";

const prompt = promptOf(75);
const { signal } = new AbortController();

test("prefill() reports blocks in order as chunks finish, the partial one last", async () => {
  await using toy = createToyEngine({ rowsMax: 32 }).engine;
  const ranges: number[][] = [];
  const copies: Uint8Array[] = [];
  const { kv, firstToken, computedTokens } = await toy.prefill(
    spec({ prompt }),
    {
      signal,
      onBlocks: ({ begin, end, blockBytes }) => {
        ranges.push([begin, end]);
        for (let i = begin; i < end; i++) copies.push(blockBytes(i).slice());
      },
    },
  );
  using _ = kv;
  deepEqual(ranges, [[0, 2], [2, 4], [4, 5]]);
  equal(kv.tokenCount, 75);
  equal(kv.blockCount, 5);
  equal(computedTokens, 75);
  copies.forEach((copy, i) => deepEqual(kv.blockBytes(i), copy));
  equal(firstToken.id, (await run(toy, { prompt })).ids[0]);
});

test("cached blocks are reported before anything is computed", async () => {
  const { engine: toy, model } = createToyEngine();
  await using _ = toy;
  (await toy.prefill(spec({ prompt }), { signal })).kv[Symbol.dispose]();
  const steps = model.stepCount;
  const reports: number[][] = [];
  const { kv, cachedTokens } = await toy.prefill(spec({ prompt }), {
    signal,
    onBlocks: ({ begin, end }) =>
      reports.push([begin, end, model.stepCount - steps]),
  });
  using _kv = kv;
  equal(cachedTokens, 64);
  deepEqual(reports, [[0, 4, 0], [4, 5, 1]]);
});

test("held blocks stay as they are while others use the whole pool", async () => {
  await using toy = createToyEngine({ kvBlocks: 12 }).engine;
  const { kv } = await toy.prefill(spec({ prompt }), { signal });
  const before = Array.from({ length: 5 }, (_, i) => kv.blockBytes(i).slice());
  for (let i = 2; i < 9; i++) await run(toy, { prompt: promptOf(60, i) });
  before.forEach((bytes, i) => deepEqual(kv.blockBytes(i), bytes));
  equal(toy.status().blocksFree, 7);
  kv[Symbol.dispose]();
  kv[Symbol.dispose]();
  equal(toy.status().blocksFree, 12);
  throws(() => kv.blockBytes(0), /disposed/);
  for (let i = 2; i < 9; i++) await run(toy, { prompt: promptOf(160, i) });
  notDeepEqual(before, []);
});

test("a sequence that needs held blocks waits until they are given back", async () => {
  await using toy = createToyEngine({ kvBlocks: 8 }).engine;
  const { kv } = await toy.prefill(spec({ prompt }), { signal });
  const waiting = run(toy, { prompt: promptOf(100, 2), maxTokens: 4 });
  await new Promise((resolve) => setTimeout(resolve, 10));
  equal(toy.status().waiting, 1);
  kv[Symbol.dispose]();
  equal((await waiting).ids.length, 4);
});

test("a first token that is a stop token says so", async () => {
  await using toy = createToyEngine().engine;
  const plain = await toy.prefill(spec({ prompt }), { signal });
  equal(plain.stopped, false);
  const stopIds = [plain.firstToken.id];
  const stop = await toy.prefill(spec({ prompt, sampling: { stopIds } }), {
    signal,
  });
  equal(stop.stopped, true);
  for (const { kv } of [plain, stop]) kv[Symbol.dispose]();
  equal(toy.status().blocksFree, 64);
});

test("a prompt may fill the whole pool, and no more", async () => {
  await using toy = createToyEngine({ kvBlocks: 4 }).engine;
  const { kv } = await toy.prefill(spec({ prompt: promptOf(64) }), { signal });
  kv[Symbol.dispose]();
  await rejects(toy.prefill(spec({ prompt: promptOf(65) }), { signal }), {
    field: "promptIds",
  });
});

test("a failing onBlocks ends its own sequence only", async () => {
  await using toy = createToyEngine().engine;
  const other = run(toy, { prompt });
  await rejects(
    toy.prefill(spec({ prompt: promptOf(50, 2) }), {
      signal,
      onBlocks: () => {
        throw new Error("the wire broke");
      },
    }),
    /the wire broke/,
  );
  equal((await other).ids.length, 16);
  equal(toy.status().blocksFree, 64);
});

test("an aborted prefill rejects with the reason and frees its blocks", async () => {
  await using toy = createToyEngine({ rowsMax: 8 }).engine;
  const controller = new AbortController();
  const running = toy.prefill(spec({ prompt: promptOf(400) }), {
    signal: controller.signal,
    onBlocks: () => controller.abort(new Error("left")),
  });
  await rejects(running, /left/);
  await new Promise((resolve) => setTimeout(resolve, 5));
  equal(toy.status().blocksFree, 64);
});

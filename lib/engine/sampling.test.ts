import { deepEqual, equal, notDeepEqual, ok } from "node:assert/strict";
import { test } from "vitest";
import type { Batch } from "./native.ts";
import { createToyEngine, promptOf, run } from "./testing/sequences.ts";
import type { Sampling } from "./types.ts";

const prompt = promptOf(20);
const warm: Partial<Sampling> = {
  temperature: 1,
  seed: 0x1234_5678_9abc_def0n,
};

test("a replay with the emitted tokens goes on identically", async () => {
  const penalties = {
    presencePenalty: 0.5,
    frequencyPenalty: 0.3,
    repetitionPenalty: 1.2,
  };
  for (const sampling of [{}, warm, { ...warm, ...penalties }]) {
    await using toy = createToyEngine().engine;
    const whole = await run(toy, { prompt, maxTokens: 24, sampling });
    for (const count of [1, 11, 12, 13, 23]) {
      await using other = createToyEngine().engine;
      const emitted = whole.ids.slice(0, count);
      const rest = await run(other, {
        prompt,
        emitted,
        maxTokens: 24,
        sampling,
      });
      deepEqual(rest.ids, whole.ids.slice(count));
    }
  }
});

test("equal seeds give equal outputs side by side, other seeds others", async () => {
  await using toy = createToyEngine().engine;
  const [a, b, c] = await Promise.all(
    [warm, warm, { ...warm, seed: 1n }].map((sampling) =>
      run(toy, { prompt, sampling })
    ),
  );
  deepEqual(a.ids, b.ids);
  notDeepEqual(a.ids, c.ids);
});

test("a stop token ends the sequence and is not emitted", async () => {
  await using toy = createToyEngine().engine;
  const free = await run(toy, { prompt, maxTokens: 20 });
  const stopId = free.ids[7];
  const first = free.ids.indexOf(stopId);
  const stopped = await run(toy, {
    prompt,
    maxTokens: 20,
    sampling: { stopIds: [stopId] },
  });
  deepEqual(stopped.ids, free.ids.slice(0, first));
  equal(stopped.finished.reason, "stop");
  equal(stopped.finished.stopTokenId, stopId);
});

test("no stop token is chosen before minTokens, whatever its bias", async () => {
  await using toy = createToyEngine().engine;
  const sampling = {
    stopIds: [3, 4],
    logitBias: new Map([[3, 100], [9, 50]]),
    minTokens: 6,
  };
  const { ids, finished } = await run(toy, { prompt, sampling });
  deepEqual(ids, [9, 9, 9, 9, 9, 9]);
  equal(finished.stopTokenId, 3);
  const replay = await run(toy, { prompt, emitted: ids.slice(0, 4), sampling });
  deepEqual(replay.ids, [9, 9]);
});

test("a bias of -Infinity forbids a token", async () => {
  await using toy = createToyEngine().engine;
  const free = await run(toy, { prompt, maxTokens: 20 });
  const logitBias = new Map([[free.ids[0], -Infinity]]);
  const biased = await run(toy, {
    prompt,
    maxTokens: 20,
    sampling: { logitBias },
  });
  ok(!biased.ids.includes(free.ids[0]));
});

test("the batch carries each token of prompt and output with its count", async () => {
  const seen: number[][][] = [];
  const onStep = ({ history, samplingInts }: Batch) => {
    const [begin, count] = samplingInts.subarray(5, 7);
    seen.push(Array.from({ length: count }, (_, i) => [
      ...history.subarray(2 * (begin + i), 2 * (begin + i) + 2),
    ]));
  };
  await using toy = createToyEngine({ onStep }).engine;
  const logitBias = new Map([[5, 1000]]);
  const base = { prompt: [5, 8, 5], emitted: [2], maxTokens: 4 };
  await run(toy, { ...base, sampling: { logitBias, repetitionPenalty: 1.1 } });
  deepEqual(seen, [
    [[5, 0], [8, 0], [2, 1]],
    [[5, 1], [8, 0], [2, 1]],
    [[5, 2], [8, 0], [2, 1]],
  ]);
  seen.length = 0;
  await run(toy, { ...base, sampling: { logitBias, presencePenalty: 1 } });
  deepEqual(seen, [[[2, 1]], [[2, 1], [5, 1]], [[2, 1], [5, 2]]]);
  seen.length = 0;
  await run(toy, { ...base, sampling: { logitBias } });
  deepEqual(seen, [[], [], []]);
});

test("seed, draw index and the rest reach the batch as they are", async () => {
  const words: number[][] = [];
  const onStep = ({ samplingInts, samplingFloats }: Batch) => {
    words.push([...samplingInts.slice(0, 5), ...samplingFloats.slice(0, 6)]);
  };
  await using toy = createToyEngine({ onStep }).engine;
  const sampling = {
    temperature: 0.5,
    topK: 7,
    topP: 0.75,
    minP: 0.125,
    presencePenalty: 0.25,
    frequencyPenalty: -0.5,
    repetitionPenalty: 1.5,
    seed: 0xfedc_ba98_7654_3210n,
    topLogprobs: 3,
  };
  await run(toy, { prompt, emitted: [1, 2], maxTokens: 4, sampling });
  const floats = [0.5, 0.75, 0.125, 0.25, -0.5, 1.5];
  deepEqual(words, [
    [7, 3, 0x76543210, 0xfedcba98 | 0, 2, ...floats],
    [7, 3, 0x76543210, 0xfedcba98 | 0, 3, ...floats],
  ]);
});

test("log-probabilities come when asked for, with so many alternatives", async () => {
  await using toy = createToyEngine().engine;
  const plain = await run(toy, { prompt, maxTokens: 2 });
  deepEqual(plain.tokens[0], { id: plain.ids[0], logprob: undefined, top: [] });
  const none = await run(toy, {
    prompt,
    maxTokens: 2,
    sampling: { topLogprobs: 0 },
  });
  ok(none.tokens[0].logprob! < 0);
  deepEqual(none.tokens[0].top, []);
  const three = await run(toy, {
    prompt,
    maxTokens: 2,
    sampling: { topLogprobs: 3 },
  });
  for (const { id, logprob, top } of three.tokens) {
    equal(top.length, 3);
    deepEqual(top[0], { id, logprob });
    ok(top[0].logprob >= top[1].logprob && top[1].logprob >= top[2].logprob);
  }
});

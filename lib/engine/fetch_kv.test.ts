import { deepEqual, equal, ok, rejects, throws } from "node:assert/strict";
import { test, vi } from "vitest";
import { createToyEngine, promptOf, run, spec } from "./testing/sequences.ts";
import type { Engine, KvFetcher, PrefillResult } from "./types.ts";

const prompt = promptOf(50);
const { signal } = new AbortController();

function prefill(engine: Engine, ids = prompt): Promise<PrefillResult> {
  return engine.prefill(spec({ prompt: ids }), { signal });
}

/** Copies blocks of another engine's prompt, as a transport would. */
function copying(
  source: PrefillResult,
  tokens: number,
  first: boolean,
): KvFetcher {
  return (request) => {
    for (let i = request.haveTokens / 16; i < Math.ceil(tokens / 16); i++) {
      request.blockBytes(i).set(source.kv.blockBytes(i));
    }
    return Promise.resolve(
      first ? { tokens, firstToken: source.firstToken } : { tokens },
    );
  };
}

/** What an engine on its own answers. */
async function alone(
  maxTokens = 16,
  sampling = {},
): Promise<readonly number[]> {
  await using toy = createToyEngine().engine;
  return (await run(toy, { prompt, maxTokens, sampling })).ids;
}

test("fetched KV with a first token needs no computation", async () => {
  await using far = createToyEngine().engine;
  const { engine: near, model } = createToyEngine();
  await using _ = near;
  const source = await prefill(far);
  using _kv = source.kv;
  const { ids, started } = await run(near, { prompt }, {
    fetchKv: copying(source, 50, true),
  });
  deepEqual(ids, await alone());
  equal(started.transferredTokens, 50);
  equal(started.computedTokens, 0);
  equal(model.stepCount, 15);
  equal(near.cachedHashes().length, 4);
});

test("whatever part of the KV arrives, the tokens are the same", async () => {
  await using far = createToyEngine().engine;
  const source = await prefill(far);
  using _kv = source.kv;
  const expected = await alone();
  for (const tokens of [0, 7, 16, 32, 48, 49, 50]) {
    await using near = createToyEngine().engine;
    const { ids, started } = await run(near, { prompt }, {
      fetchKv: copying(source, tokens, false),
    });
    deepEqual(ids, expected);
    equal(started.transferredTokens, Math.min(tokens, 49));
    equal(started.computedTokens, 50 - Math.min(tokens, 49));
  }
});

test("a prompt that fills its last block exactly is handled the same", async () => {
  const ids = promptOf(48, 3);
  await using far = createToyEngine().engine;
  const source = await prefill(far, ids);
  using _kv = source.kv;
  const expected = (await run(far, { prompt: ids })).ids;
  for (const first of [false, true]) {
    await using near = createToyEngine().engine;
    const fetchKv = copying(source, 48, first);
    deepEqual((await run(near, { prompt: ids }, { fetchKv })).ids, expected);
  }
});

test("a fetch that fails, or answers nonsense, is replaced by computing", async () => {
  const garbage: KvFetcher = (request) => {
    for (let i = 0; i < 4; i++) request.blockBytes(i).fill(0xff);
    return Promise.reject(new Error("checksum mismatch"));
  };
  const cases: [RegExp, KvFetcher][] = [
    [/checksum mismatch/, garbage],
    [/needs 0\.\.50 tokens, found 51/, () => Promise.resolve({ tokens: 51 })],
    [/found 1.5/, () => Promise.resolve({ tokens: 1.5 })],
    [
      /needs all 50 tokens/,
      () =>
        Promise.resolve({
          tokens: 16,
          firstToken: { id: 1, logprob: undefined, top: [] },
        }),
    ],
    [/missing block 0\.\.3, found 4/, (request) => {
      request.blockBytes(4);
      return Promise.resolve({ tokens: 50 });
    }],
  ];
  const expected = await alone();
  for (const [message, fetchKv] of cases) {
    const warnings: unknown[] = [];
    const onWarning = (_: string, cause: unknown) => warnings.push(cause);
    await using toy = createToyEngine({ onWarning }).engine;
    const { ids, started } = await run(toy, { prompt }, { fetchKv });
    deepEqual(ids, expected);
    equal(started.transferredTokens, 0);
    equal(warnings.length, 1);
    ok(message.test(String(warnings[0])), String(warnings[0]));
  }
});

test("what the prefix cache has is not fetched, nor writable", async () => {
  await using toy = createToyEngine().engine;
  await run(toy, { prompt });
  let have = 0;
  const { ids } = await run(toy, { prompt }, {
    fetchKv: async (request) => {
      have = request.haveTokens;
      await rejects(
        () => Promise.resolve().then(() => request.blockBytes(2)),
        /needs a missing block 3\.\.3/,
      );
      deepEqual(request.tokenIds, prompt);
      return { tokens: have };
    },
  });
  equal(have, 48);
  deepEqual(ids, await alone());
});

test("others go on while one fetches", async () => {
  await using toy = createToyEngine().engine;
  const gate = Promise.withResolvers<void>();
  const slow = run(toy, { prompt }, {
    fetchKv: async () => {
      await gate.promise;
      return { tokens: 0 };
    },
  });
  equal((await run(toy, { prompt: [1], maxTokens: 40 })).ids.length, 40);
  gate.resolve();
  deepEqual((await slow).ids, await alone());
});

test("a first token that stops ends the sequence without a step", async () => {
  await using far = createToyEngine().engine;
  const { engine: near, model } = createToyEngine();
  await using _ = near;
  const source = await prefill(far);
  using _kv = source.kv;
  const { ids, finished } = await run(
    near,
    { prompt, sampling: { stopIds: [source.firstToken.id] } },
    { fetchKv: copying(source, 50, true) },
  );
  deepEqual(ids, []);
  equal(finished.stopTokenId, source.firstToken.id);
  equal(model.stepCount, 0);
});

test("aborting a fetch throws at once; blocks stay held until the fetcher is done", async () => {
  await using toy = createToyEngine().engine;
  const controller = new AbortController();
  const gate = Promise.withResolvers<void>();
  let told = false;
  const fetching = run(toy, { prompt }, {
    signal: controller.signal,
    fetchKv: async (request, signal) => {
      signal.addEventListener("abort", () => told = true);
      const bytes = request.blockBytes(0);
      await gate.promise;
      bytes.fill(1);
      return { tokens: 50 };
    },
  });
  setTimeout(() => controller.abort(new Error("left")), 5);
  await rejects(fetching, /left/);
  ok(told);
  equal(toy.status().blocksFree, 60);
  gate.resolve();
  await new Promise((resolve) => setTimeout(resolve, 5));
  equal(toy.status().blocksFree, 64);
  deepEqual((await run(toy, { prompt })).ids, await alone());
});

test("dispose waits for fetchers, whose memory would be gone", async () => {
  const { engine, model } = createToyEngine();
  const fetching = run(engine, { prompt }, {
    fetchKv: (_, signal) =>
      new Promise((_, reject) =>
        signal.addEventListener("abort", () => {
          equal(model.closed, false);
          setTimeout(() => reject(signal.reason), 5);
        })
      ),
  });
  fetching.catch(() => {});
  await new Promise((resolve) => setTimeout(resolve, 5));
  await engine[Symbol.asyncDispose]();
  await rejects(fetching, /stopping/);
  equal(model.closed, true);
});

test("dispose leaves a fetcher behind that never returns", async () => {
  const warnings: string[] = [];
  const onWarning = (message: string) => warnings.push(message);
  const { engine, model } = createToyEngine({ onWarning });
  let late: (() => Uint8Array) | undefined;
  const fetching = run(engine, { prompt }, {
    fetchKv: (request) => {
      late = () => request.blockBytes(0);
      return new Promise(() => {});
    },
  });
  fetching.catch(() => {});
  await new Promise((resolve) => setTimeout(resolve, 5));
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
  try {
    const disposed = engine[Symbol.asyncDispose]();
    await rejects(fetching, /stopping/);
    await vi.advanceTimersByTimeAsync(5000);
    await disposed;
  } finally {
    vi.useRealTimers();
  }
  equal(model.closed, true);
  deepEqual(warnings, ["1 KV fetches did not stop within 5000 ms"]);
  throws(late!, /abort/i);
});

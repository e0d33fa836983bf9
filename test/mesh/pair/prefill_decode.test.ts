/** Decode pulls KV from prefill: with every fault, the tokens stay those of local computing. */
import { deepEqual, equal, ok } from "node:assert/strict";
import { afterEach, test } from "vitest";
import type { KvFaultKind } from "../../../lib/kv_transport/mod.ts";
import { servedModel, toSampling } from "../../../lib/worker/mod.ts";
import { FakeEngine } from "../../../lib/worker/testing/fake_engine.ts";
import {
  generate,
  type Pair,
  type PairOptions,
  promptOf,
  requestOf,
  startPair,
} from "./start_pair.ts";

let pair: Pair | undefined;
afterEach(async () => {
  await pair?.[Symbol.asyncDispose]();
  pair = undefined;
});

async function start(options: Partial<PairOptions> = {}): Promise<Pair> {
  return pair = await startPair({
    prefillEngines: { fake: new FakeEngine() },
    decodeEngines: { fake: new FakeEngine() },
    ...options,
  });
}

/** What an engine alone makes of the request. */
async function wanted(request = requestOf()): Promise<number[]> {
  const engine = new FakeEngine();
  const model = servedModel("fake", engine, []);
  const ids: number[] = [];
  const events = engine.generate({
    requestId: request.requestId,
    promptIds: Int32Array.from(request.promptIds),
    emittedIds: Int32Array.from(request.emittedIds),
    sampling: toSampling(request.sampling, model),
    maxTokens: request.maxTokens,
  }, { signal: new AbortController().signal });
  for await (const event of events) {
    if (event.kind === "tokens") ids.push(...event.tokens.map(({ id }) => id));
  }
  return ids;
}

for (const count of [1, 15, 16, 17, 200]) {
  test(`a prompt of ${count} tokens comes over whole, and gives the same tokens`, async () => {
    const pair = await start();
    const request = requestOf({
      promptIds: promptOf(count),
      prefillAddress: pair.prefill.address,
    });
    const { ids, started, finished } = await generate(pair, request);
    deepEqual(ids, await wanted(request));
    equal(ids.length, 8);
    equal(started?.transferredTokens, count);
    equal(started?.computedTokens, 0);
    equal(Number(started?.transferredBytes), Math.ceil(count / 16) * 256);
    equal(finished?.reason, 2);
    deepEqual(pair.observer.failures, []);
  });
}

test("only what the decode worker's cache lacks comes over", async () => {
  const pair = await start();
  const prefillAddress = pair.prefill.address;
  await generate(pair, requestOf({ promptIds: promptOf(64), maxTokens: 1 }));
  const request = requestOf({ promptIds: promptOf(90), prefillAddress });
  const { ids, started } = await generate(pair, request);
  equal(started?.cachedTokens, 64);
  equal(started?.transferredTokens, 26);
  deepEqual(ids, await wanted(request));
});

test("the prefill worker's cached prefix comes over like the rest", async () => {
  const pair = await start();
  const prefillAddress = pair.prefill.address;
  const warm = requestOf({
    promptIds: promptOf(64),
    prefillAddress,
    maxTokens: 1,
  });
  await generate(pair, warm);
  (pair.decode.models.get("fake").engine as FakeEngine).evictAll();
  const request = requestOf({ promptIds: promptOf(90), prefillAddress });
  const { ids, started } = await generate(pair, request);
  equal(started?.transferredTokens, 90);
  deepEqual(ids, await wanted(request));
});

test("a replay goes on behind the emitted tokens", async () => {
  const pair = await start();
  const whole = await wanted();
  const { ids, finished } = await generate(
    pair,
    requestOf({
      emittedIds: whole.slice(0, 3),
      prefillAddress: pair.prefill.address,
    }),
  );
  deepEqual(ids, whole.slice(3));
  equal(finished?.reason, 2);
});

test("a replay that has all its tokens only gets the end", async () => {
  const pair = await start();
  const { ids, finished } = await generate(
    pair,
    requestOf({ emittedIds: promptOf(8), maxTokens: 8 }),
  );
  deepEqual(ids, []);
  equal(finished?.reason, 2);
});

const faults: { kind: KvFaultKind; reason: string; tokens: number }[] = [
  { kind: "corrupt", reason: "checksum", tokens: 48 },
  { kind: "fingerprint", reason: "fingerprint", tokens: 48 },
  { kind: "missing", reason: "block_index", tokens: 48 },
  { kind: "duplicate", reason: "block_index", tokens: 64 },
  { kind: "reorder", reason: "block_index", tokens: 48 },
  { kind: "truncate", reason: "byte_length", tokens: 48 },
  { kind: "stall", reason: "stalled", tokens: 48 },
  { kind: "error", reason: "refused", tokens: 48 },
  { kind: "death", reason: "unavailable", tokens: 48 },
];

for (const { kind, reason, tokens } of faults) {
  test(`a transfer with fault "${kind}" is counted and the rest computed here`, async () => {
    const pair = await start({ fault: kind, transport: { stallMs: 300 } });
    const { ids, started, error } = await generate(
      pair,
      requestOf({ prefillAddress: pair.prefill.address }),
    );
    equal(error, undefined);
    deepEqual(ids, await wanted());
    deepEqual(pair.observer.failures, [reason]);
    // A cut connection also loses what was on its way.
    if (kind === "death") ok(started!.transferredTokens <= tokens);
    else equal(started?.transferredTokens, tokens);
    equal(started?.computedTokens, 100 - started!.transferredTokens);
  });
}

test("a stalled worker is left alone for a while", async () => {
  const pair = await start({ fault: "stall", transport: { stallMs: 200 } });
  const prefillAddress = pair.prefill.address;
  await generate(pair, requestOf({ prefillAddress }));
  const startMs = performance.now();
  await generate(
    pair,
    requestOf({ promptIds: promptOf(100, 5), prefillAddress }),
  );
  ok(
    performance.now() - startMs < 150,
    "the second request waited for the stall too",
  );
  deepEqual(pair.observer.failures, ["stalled", "cooldown"]);
});

test("a prefill worker that takes long is waited for: it shows signs of life", async () => {
  const slow = new FakeEngine({ chunkMs: 1_200, chunkTokens: 1_000 });
  const pair = await start({
    prefillEngines: { fake: slow },
    transport: { stallMs: 800 },
  });
  const { started } = await generate(
    pair,
    requestOf({ prefillAddress: pair.prefill.address }),
  );
  equal(started?.transferredTokens, 100);
  deepEqual(pair.observer.failures, []);
});

test("one that shows signs of life but no block is given up as slow", async () => {
  const slow = new FakeEngine({ chunkMs: 60_000, chunkTokens: 1_000 });
  const pair = await start({
    prefillEngines: { fake: slow },
    transport: { stallMs: 1_500, blockWaitMs: 900 },
  });
  const { ids } = await generate(
    pair,
    requestOf({ prefillAddress: pair.prefill.address }),
  );
  deepEqual(ids, await wanted());
  deepEqual(pair.observer.failures, ["slow"]);
});

test("an address that is no registered prefill worker is not called", async () => {
  const pair = await start();
  const { ids } = await generate(
    pair,
    requestOf({ prefillAddress: pair.decode.address }),
  );
  deepEqual(ids, await wanted());
  deepEqual(pair.observer.failures, ["unknown_address"]);
  equal(pair.observer.warnings.length, 1);
});

test("a prefill worker of another fingerprint refuses, and the prompt is computed here", async () => {
  const pair = await start({
    prefillEngines: { fake: new FakeEngine({ fingerprint: "other" }) },
  });
  const { ids } = await generate(
    pair,
    requestOf({ prefillAddress: pair.prefill.address }),
  );
  deepEqual(ids, await wanted());
  deepEqual(pair.observer.failures, ["refused"]);
});

test("a prefill worker with KV of another type refuses by name, and the prompt is computed here", async () => {
  const pair = await start({
    prefillEngines: { fake: new FakeEngine({ kvType: "q8_0" }) },
  });
  const { ids } = await generate(
    pair,
    requestOf({ prefillAddress: pair.prefill.address }),
  );
  deepEqual(ids, await wanted());
  deepEqual(pair.observer.failures, ["refused"]);
  ok(
    pair.observer.warnings.some((warning) =>
      JSON.stringify(warning).includes(
        "kv_dtype must be KV_DTYPE_Q8_0, is KV_DTYPE_F16",
      )
    ),
    JSON.stringify(pair.observer.warnings),
  );
});

test("a prompt larger than the buffer of its sender comes over whole", async () => {
  const big = { kvBlockBytes: 1 << 16 };
  const pair = await start({
    prefillEngines: { fake: new FakeEngine(big) },
    decodeEngines: { fake: new FakeEngine(big) },
    kvBufferBytesMax: 1 << 17,
  });
  const request = requestOf({
    promptIds: promptOf(320),
    prefillAddress: pair.prefill.address,
  });
  const { started } = await generate(pair, request);
  equal(started?.transferredTokens, 320);
  deepEqual(pair.observer.failures, []);
});

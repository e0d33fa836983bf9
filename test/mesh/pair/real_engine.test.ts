/** Two real engines over a small random model: remote prefill changes no token. */
import { deepEqual, equal, ok } from "node:assert/strict";
import { join } from "node:path";
import { afterEach, test } from "vitest";
import {
  createEngine,
  type Engine,
  type KvType,
} from "../../../lib/engine/mod.ts";
import { referenceNative } from "../../../lib/engine/testing/reference_native.ts";
import { writeTinyModel } from "../../../lib/engine/testing/tiny_model.ts";
import { tempDir } from "../../../lib/testing/mod.ts";
import { blockHashes } from "../../../lib/engine/mod.ts";
import type { KvFaultKind } from "../../../lib/kv_transport/mod.ts";
import {
  generate,
  type Pair,
  promptOf,
  requestOf,
  sampling,
  startPair,
} from "./start_pair.ts";

let undo = new AsyncDisposableStack();
afterEach(async () => {
  await undo.disposeAsync();
  undo = new AsyncDisposableStack();
});

async function engineOf(
  path: string,
  kvType: KvType = "f16",
): Promise<Engine> {
  return undo.use(
    await createEngine({
      path,
      kvType,
      native: referenceNative,
      kvBlocks: 48,
      rowsMax: 64,
    }),
  );
}

async function startReal(
  { fault, prefillKv, decodeKv }: {
    fault?: KvFaultKind;
    prefillKv?: KvType;
    decodeKv?: KvType;
  } = {},
): Promise<Pair> {
  const folder = undo.use(await tempDir("pair"));
  const path = join(folder.path, "tiny.gguf");
  writeTinyModel(path, { headDim: 32 });
  return undo.use(
    await startPair({
      prefillEngines: { fake: await engineOf(path, prefillKv) },
      decodeEngines: { fake: await engineOf(path, decodeKv) },
      fault,
      transport: { stallMs: 8_000 },
    }),
  );
}

/** Prompts that share nothing, unless they have the same salt. */
function request(count: number, salt: number) {
  return requestOf({
    promptIds: promptOf(count, salt).map((id) => id % 97),
    maxTokens: 6,
    sampling: sampling({ temperature: 0.8, seed: 5n }),
  });
}

test("prompts of 1 to 200 tokens: what is transferred gives the local tokens", async () => {
  const local = await startReal();
  const remote = await startReal();
  for (const [salt, count] of [1, 15, 16, 17, 200].entries()) {
    const asked = request(count, salt);
    const want = await generate(local, asked);
    const got = await generate(remote, {
      ...asked,
      prefillAddress: remote.prefill.address,
    });
    equal(got.error, undefined);
    deepEqual(got.ids, want.ids, `${count} tokens`);
    equal(want.started?.computedTokens, count);
    equal(got.started?.transferredTokens, count);
    deepEqual(remote.observer.failures, []);
  }
});

test("cached prefixes on either side change no token", async () => {
  const local = await startReal();
  const remote = await startReal();
  const prefillAddress = remote.prefill.address;
  const short = request(70, 3);
  const long = {
    ...request(150, 3),
    promptIds: promptOf(150, 3).map((id) => id % 97),
  };

  // Both hold the short prompt now; the long one begins with it.
  await generate(remote, { ...short, prefillAddress });
  const both = await generate(remote, { ...long, prefillAddress });
  deepEqual(both.ids, (await generate(local, long)).ids);
  equal(both.started?.cachedTokens, 64);
  equal(both.started?.transferredTokens, 86);

  // Only decode holds this one.
  const other = request(90, 11);
  await generate(remote, request(60, 11));
  const decodeOnly = await generate(remote, { ...other, prefillAddress });
  deepEqual(decodeOnly.ids, (await generate(local, other)).ids);
  equal(decodeOnly.started?.cachedTokens, 48);
  equal(decodeOnly.started?.transferredTokens, 42);
});

test("a replay whose KV is transferred goes on with the same tokens", async () => {
  const local = await startReal();
  const remote = await startReal();
  const asked = request(50, 1);
  const { ids } = await generate(local, asked);
  const replay = await generate(remote, {
    ...asked,
    emittedIds: ids.slice(0, 4),
    prefillAddress: remote.prefill.address,
  });
  deepEqual(replay.ids, ids.slice(4));
  equal(replay.started?.transferredTokens, 54);
});

test("after a corrupted block the engine computes the rest, to the same tokens", async () => {
  const local = await startReal();
  const remote = await startReal({ fault: "corrupt" });
  const asked = request(100, 2);
  const got = await generate(remote, {
    ...asked,
    prefillAddress: remote.prefill.address,
  });
  deepEqual(got.ids, (await generate(local, asked)).ids);
  deepEqual(remote.observer.failures, ["checksum"]);
  equal(got.started?.transferredTokens, 48);
});

test("blocks of q8_0 are handed over, and the tokens stay the local ones", async () => {
  const both = { prefillKv: "q8_0", decodeKv: "q8_0" } as const;
  const local = await startReal(both);
  const remote = await startReal(both);
  const asked = request(100, 5);
  const want = await generate(local, asked);
  const got = await generate(remote, {
    ...asked,
    prefillAddress: remote.prefill.address,
  });
  deepEqual(got.ids, want.ids);
  equal(got.started?.transferredTokens, 100);
  deepEqual(remote.observer.failures, []);
  const { kvBlockBytes } = remote.decode.models.get("fake").engine;
  equal(kvBlockBytes, 2 * 2 * 2 * 16 * 34);
  equal(Number(got.started?.transferredBytes), 7 * kvBlockBytes);
});

test.each([["f16", "q8_0"], ["q8_0", "f16"]] as const)(
  "KV in %s is not handed to a worker that holds %s, which computes the prompt",
  async (prefillKv, decodeKv) => {
    const local = await startReal({ decodeKv });
    const remote = await startReal({ prefillKv, decodeKv });
    const asked = request(100, 6);
    const got = await generate(remote, {
      ...asked,
      prefillAddress: remote.prefill.address,
    });
    deepEqual(got.ids, (await generate(local, asked)).ids);
    deepEqual(remote.observer.failures, ["refused"]);
    equal(got.started?.transferredTokens, 0);
    equal(got.started?.computedTokens, 100);
  },
);

test("the mesh learns the hashes that a router would compute", async () => {
  const pair = await startReal();
  const asked = request(64, 4);
  await generate(pair, asked);
  const dump = await pair.bus.requestKvDump(
    "decode-0",
    AbortSignal.timeout(2_000),
  );
  const { fingerprint } = pair.decode.models.get("fake").engine;
  const hashes = blockHashes(fingerprint, Int32Array.from(asked.promptIds));
  equal(hashes.length, 4);
  ok(hashes.every((hash) => dump?.models[0].hashes.includes(hash)));
});

/** What `Embed.Run` promises its callers, on workers of either role, with fake engines. */
import { deepEqual, equal, ok, rejects } from "node:assert/strict";
import { afterEach, test } from "vitest";
import { Code } from "../../../lib/errors/mesh_error.ts";
import { callUnary, connect } from "../../../lib/rpc/mod.ts";
import { waitFor } from "../../../lib/testing/mod.ts";
import { embedPromptsMax } from "../../../lib/worker/mod.ts";
import { FakeEngine } from "../../../lib/worker/testing/fake_engine.ts";
import {
  EmbedClient,
  type EmbedRunRequest,
} from "../../../proto/gen/quetzal/v1/embed.ts";
import { type Pair, promptOf, startPair } from "./start_pair.ts";

let pair: Pair | undefined;
afterEach(async () => {
  await pair?.[Symbol.asyncDispose]();
  pair = undefined;
});

async function start(engine = new FakeEngine()): Promise<Pair> {
  return pair = await startPair({
    prefillEngines: { fake: new FakeEngine() },
    decodeEngines: { fake: engine },
  });
}

async function embed(
  address: string,
  request: Partial<EmbedRunRequest> = {},
  options: { signal?: AbortSignal; deadlineMs?: number } = {},
) {
  const client = connect(EmbedClient, address);
  using _ = { [Symbol.dispose]: () => client.close() };
  return await callUnary(client.run.bind(client), {
    requestId: "e-1",
    model: "fake",
    prompts: [{ ids: promptOf(40) }],
    tenant: "",
    ...request,
  }, options);
}

test("workers of both roles give the same vectors, in the order of the prompts", async () => {
  const { prefill, decode, observer, prefillObserver } = await start();
  const prompts = [3, 40, 17].map((count) => ({ ids: promptOf(count) }));
  const both = [
    await embed(prefill.address, { prompts }),
    await embed(decode.address, { prompts }),
  ];
  const values = both.map(({ vectors }) =>
    vectors.map((vector) => vector.values)
  );
  deepEqual(values[0], values[1]);
  equal(new Set(values[0].map((vector) => vector.join())).size, 3);
  deepEqual(
    both[0].vectors.map(({ cachedTokens, computedTokens }) =>
      cachedTokens + computedTokens
    ),
    [3, 40, 17],
  );
  equal(observer.embeddedCount, 3);
  equal(prefillObserver.embeddedCount, 3);
  const again = await embed(prefill.address, { prompts });
  equal(again.vectors[1].cachedTokens, 32);
  deepEqual(again.vectors[1].values, values[0][1]);
});

const tooMany = Array(embedPromptsMax + 1).fill({ ids: [1] });
const refusals: [string, Partial<EmbedRunRequest>, string, number?][] = [
  ["an unknown model", { model: "x" }, "model", Code.notFound],
  ["no prompts", { prompts: [] }, "prompts"],
  ["too many prompts", { prompts: tooMany }, "prompts"],
  [
    "an empty prompt",
    { prompts: [{ ids: [1] }, { ids: [] }] },
    "prompts[1].ids",
  ],
  ["a negative id", { prompts: [{ ids: [-1] }] }, "prompts[0].ids[0]"],
  [
    "an id behind the vocabulary",
    { prompts: [{ ids: [1] }, { ids: [1, 1_000] }] },
    "prompts[1].ids[1]",
  ],
  [
    "more than the context",
    { prompts: [{ ids: promptOf(5_000) }] },
    "prompts[0].ids",
  ],
];

test("what cannot be embedded is refused by field, on both roles", async () => {
  const { prefill, decode } = await start();
  for (const { address } of [prefill, decode]) {
    for (
      const [label, request, field, code = Code.invalidArgument] of refusals
    ) {
      await rejects(embed(address, request), { code, field }, label);
    }
  }
});

test("a cancelled call ends its prompts", async () => {
  const engine = new FakeEngine({ chunkMs: 20 });
  const { decode } = await start(engine);
  const controller = new AbortController();
  const prompts = [1, 2].map((salt) => ({ ids: promptOf(4_000, salt) }));
  const running = embed(decode.address, { prompts }, {
    signal: controller.signal,
  });
  await waitFor(() => engine.running === 2, { what: "two prompts" });
  controller.abort(new Error("left"));
  await rejects(running, /left/);
  await waitFor(() => engine.abortedCount === 2, { what: "their ends" });
  equal(decode.admission.running, 0);
});

test("a deadline ends them too", async () => {
  const engine = new FakeEngine({ chunkMs: 20 });
  const { decode } = await start(engine);
  await rejects(
    embed(decode.address, { prompts: [{ ids: promptOf(4_000) }] }, {
      deadlineMs: Date.now() + 150,
    }),
    { code: Code.deadlineExceeded },
  );
  await waitFor(() => engine.abortedCount === 1, { what: "its end" });
});

test("a draining worker takes none, and ends those that take too long", async () => {
  const { decode } = await start(new FakeEngine({ chunkMs: 20 }));
  const running = embed(decode.address, {
    prompts: [{ ids: promptOf(4_000) }],
  });
  await waitFor(() => decode.admission.running === 1, { what: "a call" });
  const drained = decode.drain(100);
  await rejects(embed(decode.address), { code: Code.unavailable });
  await rejects(running, { code: Code.unavailable });
  equal(await drained, 1);
});

test("a model that leaves says so by its field", async () => {
  const { decode } = await start();
  const model = decode.models.get("fake");
  decode.models.startDrain(model);
  await rejects(embed(decode.address), {
    code: Code.unavailable,
    field: "model",
    retryAfterMs: 500,
  });
  decode.models.reopen(model);
  ok((await embed(decode.address)).vectors.length === 1);
});

/** What `Decode.Generate` promises its callers, with an engine that is a fake. */
import { deepEqual, equal, match, ok, rejects } from "node:assert/strict";
import { afterEach, test } from "vitest";
import { callStream, callUnary, connect } from "../../../lib/rpc/mod.ts";
import { waitFor } from "../../../lib/testing/mod.ts";
import { FakeEngine } from "../../../lib/worker/testing/fake_engine.ts";
import { WorkerControlClient } from "../../../proto/gen/quetzal/v1/control.ts";
import type { DecodeRequest } from "../../../proto/gen/quetzal/v1/decode.ts";
import {
  generate,
  type Pair,
  type PairOptions,
  promptOf,
  requestOf,
  sampling,
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

const invalid = 3;
const notFound = 5;
const refused: {
  label: string;
  request: Partial<DecodeRequest>;
  field: string;
  code?: number;
}[] = [
  {
    label: "an unknown model",
    request: { model: "x" },
    field: "model",
    code: notFound,
  },
  { label: "no prompt", request: { promptIds: [] }, field: "prompt_ids" },
  {
    label: "an id behind the vocabulary",
    request: { promptIds: [5, 1000] },
    field: "prompt_ids[1]",
  },
  {
    label: "a negative id",
    request: { emittedIds: [-1] },
    field: "emitted_ids[0]",
  },
  {
    label: "more than the context",
    request: { promptIds: promptOf(5_000) },
    field: "prompt_ids",
  },
  { label: "max_tokens 0", request: { maxTokens: 0 }, field: "max_tokens" },
  { label: "max_tokens -1", request: { maxTokens: -1 }, field: "max_tokens" },
  ...([
    ["temperature", { temperature: NaN }],
    ["temperature", { temperature: -0.1 }],
    ["temperature", { temperature: 101 }],
    ["temperature", { temperature: Infinity }],
    ["top_k", { topK: -1 }],
    ["top_p", { topP: 0 }],
    ["top_p", { topP: 1.5 }],
    ["top_p", { topP: NaN }],
    ["min_p", { minP: 2 }],
    ["presence_penalty", { presencePenalty: 3 }],
    ["frequency_penalty", { frequencyPenalty: -3 }],
    ["repetition_penalty", { repetitionPenalty: 0 }],
    ["logit_bias", { logitBias: { 1000: 1 } }],
    ["logit_bias[3]", { logitBias: { 3: NaN } }],
    ["logit_bias[3]", { logitBias: { 3: Infinity } }],
    ["stop_token_ids[0]", { stopTokenIds: [1000] }],
    ["min_tokens", { minTokens: -1 }],
    ["top_logprobs", { topLogprobs: 21 }],
    ["top_logprobs", { topLogprobs: -1 }],
  ] as const).map(([field, values]) => ({
    label: `sampling ${JSON.stringify(Object.entries(values)[0].map(String))}`,
    request: { sampling: sampling(values as Parameters<typeof sampling>[0]) },
    field: `sampling.${field}`,
  })),
];

test("what no engine could run is refused in-band, by field", async () => {
  const engine = new FakeEngine();
  const pair = await start({ decodeEngines: { fake: engine } });
  for (const { label, request, field, code = invalid } of refused) {
    const { error, ids } = await generate(pair, requestOf(request));
    deepEqual(ids, [], label);
    equal(error?.code, code, label);
    equal(error?.field, field, label);
  }
  equal(engine.running, 0);
  equal((await generate(pair, requestOf())).ids.length, 8);
});

test("an absent sampling message means greedy", async () => {
  const pair = await start();
  const { ids, error } = await generate(
    pair,
    requestOf({ sampling: undefined }),
  );
  equal(error, undefined);
  equal(ids.length, 8);
});

test("end tokens of the model end an answer, unless ignored", async () => {
  const free = await start();
  const { ids } = await generate(free, requestOf());
  await free[Symbol.asyncDispose]();
  const pair = await start({ endIds: [ids[3]] });
  const stopped = await generate(pair, requestOf());
  deepEqual(stopped.ids, ids.slice(0, 3));
  equal(stopped.finished?.reason, 1);
  equal(stopped.finished?.stopTokenId, ids[3]);
  const ignored = await generate(
    pair,
    requestOf({ sampling: sampling({ ignoreEos: true }) }),
  );
  deepEqual(ignored.ids, ids);
});

test("log-probabilities come along when asked for", async () => {
  const pair = await start();
  const request = requestOf({
    sampling: sampling({ topLogprobs: 2 }),
    prefillAddress: pair.prefill.address,
  });
  let count = 0;
  for await (
    const { event } of callStream(
      pair.client.generate.bind(pair.client),
      request,
    )
  ) {
    if (event?.$case !== "tokens") continue;
    for (const { logprob, top } of event.value.tokens) {
      equal(logprob, -0.5);
      equal(top.length, 2);
      count++;
    }
  }
  equal(count, 8);
});

for (
  const { label, prefill } of [
    { label: "while it decodes", prefill: false },
    { label: "while its KV is fetched", prefill: true },
  ]
) {
  test(`cancelling a sequence ${label} reaches the engines`, async () => {
    const decode = new FakeEngine({ stepMs: 5 });
    const remote = new FakeEngine({ chunkMs: 50, chunkTokens: 16 });
    const pair = await start({
      decodeEngines: { fake: decode },
      prefillEngines: { fake: remote },
    });
    const controller = new AbortController();
    const request = requestOf({
      maxTokens: 3_000,
      promptIds: promptOf(600),
      prefillAddress: prefill ? pair.prefill.address : "",
    });
    const running = generate(pair, request, { signal: controller.signal });
    const busy = prefill ? remote : decode;
    await waitFor(() => busy.running === 1);
    await pause(40);
    controller.abort(new Error("enough"));
    await rejects(running, /enough/);
    await waitFor(() => decode.running === 0 && remote.running === 0, {
      what: "engines without sequences",
      timeoutMs: 500,
    });
    equal(decode.abortedCount, 1);
    equal(remote.abortedCount, prefill ? 1 : 0);
    await waitFor(() => pair.decode.admission.running === 0);
  });
}

test("a passed deadline frees the sequence", async () => {
  const engine = new FakeEngine({ stepMs: 5 });
  const pair = await start({ decodeEngines: { fake: engine } });
  const deadlineMs = Date.now() + 200;
  await rejects(
    generate(pair, requestOf({ maxTokens: 3_000 }), { deadlineMs }),
    {
      code: 4,
    },
  );
  await waitFor(() => engine.running === 0, { timeoutMs: 500 });
  equal(engine.abortedCount, 1);
});

test("a draining worker refuses new sequences and lets running ones end", async () => {
  const pair = await start({
    decodeEngines: { fake: new FakeEngine({ stepMs: 10 }) },
  });
  const running = generate(pair, requestOf({ maxTokens: 30 }));
  await waitFor(() => pair.decode.admission.running === 1);
  const drained = pair.decode.drain(10_000);
  const late = await generate(pair, requestOf());
  equal(late.error?.code, 14);
  const { ids, finished } = await running;
  equal(ids.length, 30);
  equal(finished?.reason, 2);
  equal(await drained, 0);
  const record = await firstRecord(pair, "decode");
  equal(record.draining, true);
});

test("what a drain cannot wait for ends in-band as unavailable", async () => {
  const engine = new FakeEngine({ stepMs: 10 });
  const pair = await start({ decodeEngines: { fake: engine } });
  const running = generate(pair, requestOf({ maxTokens: 3_000 }));
  await waitFor(() => engine.running === 1);
  equal(await pair.decode.drain(100), 1);
  await pair.decode[Symbol.asyncDispose]();
  const { error, ids } = await running;
  equal(error?.code, 14);
  match(error?.message ?? "", /draining/);
  ok(ids.length > 0);
});

test("WorkerControl tells the state, and drains within its deadline", async () => {
  const pair = await start({
    decodeEngines: { fake: new FakeEngine({ stepMs: 10 }) },
  });
  const control = connect(WorkerControlClient, pair.decode.address);
  try {
    const running = generate(pair, requestOf({ maxTokens: 100 }));
    await waitFor(() => pair.decode.admission.running === 1);
    const status = await callUnary(control.status.bind(control), {});
    equal(status.role, "decode");
    equal(status.draining, false);
    deepEqual(status.models.map(({ model, running }) => [model, running]), [[
      "fake",
      1,
    ]]);
    const deadlineMs = Date.now() + 400;
    const drained = await callUnary(control.drain.bind(control), {}, {
      deadlineMs,
    });
    equal(drained.remaining, 1);
    equal((await callUnary(control.status.bind(control), {})).draining, true);
    equal((await running).ids.length, 100);
  } finally {
    control.close();
  }
});

test("a reader that stands still loses its sequence", async () => {
  const engine = new FakeEngine();
  const pair = await start({
    decodeEngines: { fake: engine },
    slowReaderMs: 300,
  });
  const request = requestOf({
    maxTokens: 4_000,
    promptIds: promptOf(1),
    sampling: sampling({ topLogprobs: 20 }),
  });
  const call = pair.client.generate(request);
  call.on("error", () => {
    // The end of the test cuts the call.
  });
  call.once("data", () => call.pause());
  await waitFor(() => engine.running === 1);
  await waitFor(() => engine.running === 0, {
    what: "the sequence's end",
    timeoutMs: 8_000,
  });
  call.cancel();
});

test("each model of a worker has its own engine", async () => {
  const engines = () => ({
    a: new FakeEngine({ fingerprint: "a" }),
    b: new FakeEngine({ fingerprint: "b", vocabSize: 77 }),
  });
  const pair = await start({
    prefillEngines: engines(),
    decodeEngines: engines(),
  });
  const prefillAddress = pair.prefill.address;
  const [a, b] = await Promise.all([
    generate(
      pair,
      requestOf({ model: "a", prefillAddress, promptIds: promptOf(50) }),
    ),
    generate(
      pair,
      requestOf({ model: "b", prefillAddress, promptIds: promptOf(50, -1) }),
    ),
  ]);
  equal(a.started?.transferredTokens, 50);
  equal(b.started?.transferredTokens, undefined);
  equal(b.error?.field, "prompt_ids[3]");
  const good = requestOf({
    model: "b",
    prefillAddress,
    promptIds: [1, 2, 3, 76],
  });
  const c = await generate(pair, good);
  equal(c.started?.transferredTokens, 4);
  ok(c.ids.every((id) => id < 77));
  const { models } = await firstRecord(pair, "decode");
  deepEqual(models.map(({ model, fingerprint }) => [model, fingerprint]), [
    ["a", "a"],
    ["b", "b"],
  ]);
});

test("KV events are numbered without gaps, and the dump agrees with them", async () => {
  const engine = new FakeEngine();
  const pair = await start({ decodeEngines: { fake: engine } });
  const controller = new AbortController();
  const held = new Set<string>();
  const numbers: number[] = [];
  const reading = (async () => {
    for await (const event of pair.bus.subscribeKv(controller.signal)) {
      if (event.workerId !== "decode-0") continue;
      numbers.push(event.number);
      event.stored.forEach((hash) => held.add(hash));
      event.removed.forEach((hash) => held.delete(hash));
    }
  })();
  await generate(pair, requestOf({ promptIds: promptOf(64) }));
  await pause(60);
  engine.evictAll();
  await generate(pair, requestOf({ promptIds: promptOf(33) }));
  const dump = await pair.bus.requestKvDump("decode-0", controller.signal);
  await waitFor(() => numbers.at(-1) === dump?.models[0].number);
  controller.abort();
  await reading;
  deepEqual(numbers, numbers.map((_, i) => i + 1));
  deepEqual([...held].sort(), [...dump?.models[0].hashes ?? []].sort());
  equal(held.size, 2);
});

async function firstRecord(pair: Pair, role: "decode" | "prefill") {
  const controller = new AbortController();
  try {
    for await (const change of pair.bus.watchWorkers(controller.signal)) {
      if (change.kind === "put" && change.record.role === role) {
        return change.record;
      }
    }
  } finally {
    controller.abort();
  }
  throw new Error(`No ${role} worker is registered`);
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

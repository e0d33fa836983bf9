/** Workers that die, refuse and come back; queues that fill; clients that do not read. */
import { deepEqual, equal, ok } from "node:assert/strict";
import { connect } from "node:net";
import { afterEach, test } from "vitest";
import type { WakeMessage } from "../../../lib/bus/mod.ts";
import { Code, MeshError } from "../../../lib/errors/mesh_error.ts";
import { waitFor } from "../../../lib/testing/mod.ts";
import type { RouterConfig } from "../config.ts";
import {
  demoModel,
  says,
  type TestRouter,
  testRouter,
} from "../testing/demo.ts";
import type { FakeDecode } from "../testing/fake_decode.ts";
import { readEvents } from "../testing/sse.ts";

let mesh: TestRouter;
afterEach(() => mesh[Symbol.asyncDispose]());

async function start(
  settings: Partial<RouterConfig> = {},
): Promise<TestRouter> {
  mesh = await testRouter(settings);
  return mesh;
}

const story = "Once there was a fox named Pip — 世界 👩‍🚀 — who ran. The end!";
const chat = { model: "demo", messages: [{ role: "user", content: "Hi" }] };
const path = "/v1/chat/completions";

async function streamed(
  body: object = {},
): Promise<{ text: string; pieces: string[]; usage?: Usage }> {
  const response = await mesh.post(path, {
    ...chat,
    stream: true,
    stream_options: { include_usage: true },
    ...body,
  });
  equal(response.status, 200);
  const pieces: string[] = [];
  let usage;
  for await (const event of readEvents(response)) {
    if (event.error) throw new Error(event.error.message);
    pieces.push(event.choices[0]?.delta.content ?? "");
    usage = event.usage ?? usage;
  }
  return { text: pieces.join(""), pieces, usage };
}

/** Whether the router's gauge stands there. */
async function counts(gauge: string, value: number): Promise<boolean> {
  const text = await (await fetch(`${mesh.url}/metrics`)).text();
  return new RegExp(`${gauge}\\{.*\\} ${value}$`, "m").test(text);
}

interface Usage {
  readonly completion_tokens: number;
  readonly prompt_tokens_details: { readonly cached_tokens: number };
}

/** A hook that acts once, at the given token. */
function once(at: number, act: (worker: FakeDecode) => void) {
  let done = false;
  return (worker: FakeDecode, _request: unknown, index: number) => {
    if (done || index < at) return;
    done = true;
    act(worker);
  };
}

const deaths: { label: string; act: (worker: FakeDecode) => void }[] = [
  { label: "its connections break", act: (worker) => void worker.crash() },
  {
    label: "it reports that it goes down",
    act: () => {
      throw new MeshError(Code.unavailable, "shutting down");
    },
  },
  {
    label: "it fails inside",
    act: () => {
      throw new MeshError(Code.internal, "engine fault");
    },
  },
  {
    label: "it unloaded the model",
    act: () => {
      throw new MeshError(Code.notFound, "no such model");
    },
  },
];

for (const { label, act } of deaths) {
  test(`the text goes on unchanged on another worker when ${label}`, async () => {
    const { model } = await start();
    const script = says(model, story);
    const onToken = once(6, act);
    const workers = [
      await mesh.worker({ script, tokenMs: 2, onToken }),
      await mesh.worker({ script, tokenMs: 2, onToken }),
    ];
    const { text, usage } = await streamed({ stop: ["The end?"] });
    equal(text, story);
    equal(
      usage?.completion_tokens,
      model.tokenizer.encode(story, { addSpecial: false }).length,
    );
    const [first, second] = [...workers[0].requests, ...workers[1].requests]
      .toSorted((a, b) => a.emittedIds.length - b.emittedIds.length);
    ok(
      second.emittedIds.length >= 4,
      `${second.emittedIds.length} ids were handed over`,
    );
    deepEqual([...second.promptIds], [...first.promptIds]);
    deepEqual(second.sampling, first.sampling);
  });
}

test("a sequence that lost its worker goes on first although the queue is full", async () => {
  const { model } = await start({ workerSequencesMax: 1, heldMax: 1 });
  const long = story.repeat(8);
  const worker = await mesh.worker({ script: says(model, long), tokenMs: 5 });
  const running = streamed();
  await waitFor(() => worker.running === 1, { what: "a sequence" });
  const held = mesh.post(path, { ...chat, max_tokens: 1 });
  await waitFor(() => counts("num_requests_waiting", 1), {
    what: "a full queue",
  });
  worker.breakOffAt = 1;
  equal((await running).text, long);
  equal((await held).status, 200);
  const [, replay, newcomer] = worker.requests;
  ok(replay.emittedIds.length > 0);
  equal(newcomer.maxTokens, 1);
});

test("a sequence that has begun waits for a worker whose queue is full", async () => {
  const { model } = await start({ attemptsMax: 2 });
  let refusals = 0;
  const worker = await mesh.worker({
    script: says(model, story),
    onToken: (self, { emittedIds }, index) => {
      if (emittedIds.length === 0 && index >= 6) self.breakOffAt = index;
      else if (emittedIds.length > 0 && refusals++ < 3) {
        throw new MeshError(Code.resourceExhausted, "all places are taken");
      }
    },
  });
  equal((await streamed()).text, story);
  equal(worker.requests.length, 5);
});

test("a worker that lives and brings nothing is left, and avoided for a while", async () => {
  const { model } = await start({ stallMs: 200, slowClientMs: 200 });
  const script = says(model, story);
  const hung: FakeDecode[] = [];
  const onToken = once(6, (worker) => {
    hung.push(worker);
    worker.hangs = true;
  });
  const workers = [
    await mesh.worker({ script, onToken }),
    await mesh.worker({ script, onToken }),
  ];
  equal((await streamed()).text, story);
  equal(hung.length, 1);
  const other = workers.find((worker) => worker !== hung[0])!;
  deepEqual(workers.map(({ requests }) => requests.length), [1, 1]);
  ok(other.requests[0].emittedIds.length >= 5);
  await waitFor(() => hung[0].running === 0, { what: "the cancelled call" });
});

test("who has not begun on a worker that hangs goes elsewhere with who has", async () => {
  const { model } = await start({ stallMs: 300, slowClientMs: 300 });
  const script = says(model, story);
  const hung = await mesh.worker({
    script,
    onToken: once(6, (worker) => worker.hangs = true),
  });
  const first = streamed();
  await waitFor(() => hung.hangs, { what: "the hang" });
  const second = streamed();
  await waitFor(() => hung.requests.length === 2, { what: "the second call" });
  const other = await mesh.worker({ script });
  deepEqual((await Promise.all([first, second])).map(({ text }) => text), [
    story,
    story,
  ]);
  equal(other.requests.length, 2);
});

test("a stream that ends without `finished` is replayed", async () => {
  const { model } = await start();
  const script = says(model, story);
  const broken = await mesh.worker({ script });
  broken.breakOffAt = 5;
  const { text } = await streamed();
  equal(text, story);
  equal(broken.requests.length, 2);
});

test("the only worker dies and comes back at the same address: the stream waits for it", async () => {
  const { model, bus } = await start();
  const script = says(model, story);
  const worker = await mesh.worker({
    script,
    tokenMs: 2,
    onToken: once(6, async (dying) => {
      const port = Number(dying.address.split(":")[1]);
      await dying.crash();
      setTimeout(async () => {
        await dying.start(port);
        await dying.join(bus);
      }, 700);
    }),
  });
  equal((await streamed()).text, story);
  equal(worker.requests.length, 2);
});

test("the worker's last word is lost: nothing is generated twice", async () => {
  const { model } = await start();
  const script = says(model, story);
  const worker = await mesh.worker({ script });
  worker.breakOffAt = 5;
  const { text, usage } = await streamed({ max_tokens: 5 });
  equal(usage?.completion_tokens, 5);
  ok(story.startsWith(text));
  equal(worker.requests.length, 1);
});

test("a request that every worker fails ends after the allowed attempts", async () => {
  await start({ attemptsMax: 2 });
  const worker = await mesh.worker({
    script: () => 300,
    onToken: () => {
      throw new MeshError(Code.internal, "poisoned");
    },
  });
  const response = await mesh.post(path, chat);
  equal(response.status, 500);
  equal(worker.requests.length, 2);
});

test("a worker's refusal of the request itself is passed on, not tried elsewhere", async () => {
  await start();
  const worker = await mesh.worker({
    script: () => 300,
    onToken: () => {
      throw new MeshError(Code.invalidArgument, "Cannot run: too long", {
        field: "prompt_ids",
      });
    },
  });
  const response = await mesh.post(path, chat);
  deepEqual([response.status, (await response.json()).error.message], [
    400,
    "Cannot run: too long",
  ]);
  equal(worker.requests.length, 1);
});

for (const stream of [false, true]) {
  test(`what failed inside is in the log and not in the answer (stream: ${stream})`, async () => {
    await start({ attemptsMax: 1 });
    await mesh.worker({
      script: () => 300,
      onToken: once(2, () => {
        throw new Error("secret.ts:12 failed at 10.0.0.7");
      }),
    });
    const response = await mesh.post(path, { ...chat, stream }, {
      headers: {
        "content-type": "application/json",
        "x-request-id": "my-request",
      },
    });
    const answer = await response.text();
    ok(!/secret|10\.0/.test(answer), answer);
    ok(/Cannot answer request .+my-request.+: an internal error/.test(answer));
    const line = mesh.log.find((each) => each.includes("my-request"));
    ok(line?.includes("secret.ts:12 failed at 10.0.0.7"), `${line}`);
  });
}

test("an error in mid-stream is the stream's last event", async () => {
  await start({ attemptsMax: 1 });
  await mesh.worker({
    script: () => 300,
    onToken: once(3, () => {
      throw new MeshError(Code.internal, "engine fault");
    }),
  });
  const response = await mesh.post(path, { ...chat, stream: true });
  const raw = await response.text();
  const events = raw.trim().split("\n\n");
  const last = JSON.parse(events.at(-1)!.slice("data: ".length));
  deepEqual(Object.keys(last.error).sort(), [
    "code",
    "message",
    "param",
    "type",
  ]);
  ok(!raw.includes("[DONE]"));
});

test("requests are held until a worker comes, and wake the autoscaler meanwhile", async () => {
  const { bus, model } = await start();
  const stop = new AbortController();
  const wakes: WakeMessage[] = [];
  const listening = (async () => {
    for await (const wake of bus.subscribeWake(stop.signal)) wakes.push(wake);
  })();
  const answers = [1, 2].map(() =>
    mesh.post(path, chat).then((response) => response.json())
  );
  await waitFor(() => wakes.length >= 2, { what: "two wakes" });
  await mesh.worker({ script: says(model, story) });
  for (const answer of await Promise.all(answers)) {
    equal(answer.choices[0].message.content, story);
  }
  deepEqual([wakes[0].model, wakes.at(-1)?.held], ["demo", 2]);
  stop.abort();
  await listening.catch(() => {});
});

test("a held stream gets comments, and starts when the worker comes", async () => {
  const { model } = await start({ keepAliveMs: 40 });
  const response = mesh.post(path, { ...chat, stream: true });
  setTimeout(() => void mesh.worker({ script: says(model, story) }), 200);
  const raw = await (await response).text();
  ok(raw.startsWith(": waiting\n\n"), raw.slice(0, 40));
  ok(raw.endsWith("data: [DONE]\n\n"));
});

test("no worker within the hold: 503 with Retry-After", async () => {
  await start({ holdMs: 100 });
  const response = await mesh.post(path, chat);
  equal(response.status, 503);
  equal((await response.json()).error.code, "no_worker");
  ok(Number(response.headers.get("retry-after")) >= 1);
  equal((await fetch(`${mesh.url}/health`)).status, 503);
});

test("a router without workers is ready: it holds requests", async () => {
  await start();
  const probe = async (path: string) =>
    (await fetch(`${mesh.url}${path}`)).status;
  deepEqual([await probe("/health"), await probe("/ready")], [503, 200]);
});

test("a full hold queue: 429 with Retry-After, those held are served", async () => {
  const { model } = await start({ heldMax: 2 });
  const held = [1, 2].map(() => mesh.post(path, chat));
  await waitFor(() => counts("num_requests_waiting", 2));
  const refused = await mesh.post(path, chat);
  deepEqual([refused.status, refused.headers.get("retry-after")], [429, "1"]);
  equal((await refused.json()).error.type, "rate_limit_error");
  await mesh.worker({ script: says(model, story) });
  for (const answer of await Promise.all(held)) equal(answer.status, 200);
});

test("a router that is full refuses before it looks at the prompt", async () => {
  await start({ sequencesMax: 1 });
  const worker = await mesh.worker({ script: () => 300, tokenMs: 5 });
  const running = mesh.post(path, chat);
  await waitFor(() => worker.running === 1, { what: "a sequence" });
  const content = "far too long ".repeat(20_000);
  const refused = await mesh.post(path, {
    ...chat,
    messages: [{ role: "user", content }],
  });
  equal(refused.status, 429);
  equal((await running).status, 200);
});

test("a request's deadline ends it with 504 while it generates", async () => {
  await start({ requestMs: 300 });
  const worker = await mesh.worker({ script: () => 300, tokenMs: 10 });
  const response = await mesh.post(path, chat);
  equal(response.status, 504);
  await waitFor(() => worker.running === 0, { what: "the cancelled sequence" });
});

test("workers get no more sequences than the cap, the others wait their turn", async () => {
  const { model } = await start({ workerSequencesMax: 2 });
  let peak = 0;
  const worker = await mesh.worker({
    script: says(model, "Hello there, friend."),
    tokenMs: 5,
    onToken: (self) => peak = Math.max(peak, self.running),
  });
  const answers = await Promise.all(
    Array.from({ length: 7 }, () => mesh.post(path, chat)),
  );
  deepEqual(answers.map(({ status }) => status), Array(7).fill(200));
  equal(worker.requests.length, 7);
  equal(peak, 2);
});

test("a client that stops reading loses its sequence, before it costs much memory", async () => {
  const contextLength = 200_000;
  const model = { ...await demoModel(), contextLength };
  mesh = await testRouter({ slowClientMs: 600 }, [model]);
  const worker = await mesh.worker({
    script: (_request, index) => 300 + index % 50,
    tokensPerStep: 10,
    model: { contextLength },
  });
  const max_tokens = 100_000;
  const body = JSON.stringify({
    ...chat,
    stream: true,
    logprobs: true,
    top_logprobs: 20,
    max_tokens,
  });
  const socket = connect(mesh.router.httpPort, "127.0.0.1");
  socket.on("error", () => {});
  socket.pause();
  socket.write(
    `POST ${path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n` +
      `content-length: ${body.length}\r\n\r\n${body}`,
  );
  await waitFor(() => worker.requests.length === 1, { what: "a sequence" });
  await waitFor(() => worker.running === 0, {
    what: "its end",
    timeoutMs: 25_000,
  });
  // Which limit comes first depends on how fast the worker is.
  const limits =
    /the client has read nothing for 600 ms|the client is \d+ messages behind/;
  await waitFor(() => mesh.log.some((line) => limits.test(line)), {
    what: "the reason in the log",
  });
  socket.destroy();
  const metrics = await (await fetch(`${mesh.url}/metrics`)).text();
  const taken = Number(
    /^quetzal:generation_tokens_total\{.*\} (\d+)$/m.exec(metrics)?.[1],
  );
  // The socket buffers take some 4.7 MB: measured 3,590 tokens, on Bun and on Deno.
  ok(taken < 20_000, `${taken} tokens were taken though nobody read`);
});

test("a draining router finishes its streams and refuses new requests", async () => {
  const { model } = await start();
  await mesh.worker({ script: says(model, story), tokenMs: 5 });
  const running = streamed();
  await waitFor(() => counts("num_requests_running", 1));
  const closed = mesh.router.close(5_000);
  equal((await running).text, story);
  await closed;
  await fetch(`${mesh.url}/health`).then(
    () => ok(false, "the door is still open"),
    () => {},
  );
});

test("a reader that is slow at the end gets the whole answer although the router stops", async () => {
  const contextLength = 200_000;
  const model = { ...await demoModel(), contextLength };
  mesh = await testRouter({}, [model]);
  const worker = await mesh.worker({
    script: (_request, index) => 300 + index % 50,
    tokensPerStep: 100,
    model: { contextLength },
  });
  // 13 MB, of which the sockets of both ends take less than a half.
  const body = JSON.stringify({
    ...chat,
    logprobs: true,
    top_logprobs: 20,
    max_tokens: 12_000,
  });
  const socket = connect(mesh.router.httpPort, "127.0.0.1");
  let got = "";
  socket.setEncoding("latin1").on("data", (text) => got += text);
  const ended = new Promise((resolve) => socket.once("close", resolve));
  socket.pause();
  socket.write(
    `POST ${path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n` +
      `content-length: ${body.length}\r\n\r\n${body}`,
  );
  await waitFor(() => worker.written >= 120, { what: "the last token" });
  const closed = mesh.router.close(5_000);
  await new Promise((resolve) => setTimeout(resolve, 500));
  socket.resume();
  await closed;
  await ended;
  const [head, answer] = got.split("\r\n\r\n");
  const length = Number(/content-length: (\d+)/i.exec(head)?.[1]);
  ok(length > 8_000_000, `the answer has ${length} bytes`);
  equal(answer.length, length);
});

test("a router that may not wait cuts its streams off with an error", async () => {
  await start();
  await mesh.worker({ script: () => 300, tokenMs: 5 });
  const answer = mesh.post(path, { ...chat, stream: true }).then((response) =>
    response.text()
  );
  await waitFor(() => counts("num_requests_running", 1));
  await mesh.router.close(50);
  ok(/"code":"service_unavailable"/.test(await answer));
});

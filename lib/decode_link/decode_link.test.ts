import { deepEqual, equal, ok, rejects } from "node:assert/strict";
import { afterEach, beforeEach, test } from "vitest";
import {
  DecodeClient,
  type DecodeEvent,
  DecodeRequest,
  DecodeService,
  type LinkBatch,
  type LinkCommand,
} from "../../proto/gen/quetzal/v1/decode.ts";
import { FinishReason } from "../../proto/gen/quetzal/v1/common.ts";
import { Code, MeshError } from "../errors/mesh_error.ts";
import {
  type CallContext,
  connect,
  openDuplex,
  type RpcServer,
  serverStream,
  startRpcServer,
  toStreamError,
} from "../rpc/mod.ts";
import { waitFor } from "../testing/mod.ts";
import {
  DecodeLink,
  linkMethod,
  type SequenceHandler,
  SlowReaderError,
} from "./mod.ts";

const calls = new Map<string, CallContext>();
let server: RpcServer;
let link: DecodeLink;

/** The request's id says what happens; steps come every 2 ms, for all together. */
const handler: SequenceHandler = async (request, call, sink) => {
  const { requestId, maxTokens } = request;
  calls.set(requestId, call);
  for (let i = 0; i < maxTokens && !call.signal.aborted; i++) {
    if (!requestId.startsWith("flood")) await nextStep();
    else if (i % 50 === 49) await new Promise(setImmediate);
    await sink.write(tokenEvent(i));
  }
  if (requestId === "fail") {
    throw new MeshError(Code.notFound, "Cannot run: no model");
  }
  if (requestId === "silent") return;
  if (!call.signal.aborted) sink.write(finished);
};

const errorEvent = (reason: unknown): DecodeEvent => ({
  event: { $case: "error", value: toStreamError(reason) },
});

let step = Promise.resolve();
let isStepping = false;
function nextStep(): Promise<void> {
  if (!isStepping) {
    isStepping = true;
    step = new Promise((resolve) =>
      setTimeout(() => {
        isStepping = false;
        resolve();
      }, 2)
    );
  }
  return step;
}

function tokenEvent(id: number): DecodeEvent {
  const token = { id, provenance: 1, logprob: undefined, top: [] };
  return {
    event: {
      $case: "tokens",
      value: { tokens: [token], batchSize: 1, stepUs: 1 },
    },
  };
}

const finished: DecodeEvent = {
  event: {
    $case: "finished",
    value: {
      reason: FinishReason.FINISH_REASON_LENGTH,
      stopTokenId: undefined,
      preemptions: 0,
    },
  },
};

function start(port = 0): Promise<RpcServer> {
  return startRpcServer({
    port,
    services: [{
      name: "quetzal.v1.Decode",
      definition: DecodeService,
      implementation: {
        generate: serverStream(handler, errorEvent),
        attach: linkMethod(handler, errorEvent),
      },
    }],
  });
}

function request(requestId: string, maxTokens: number): DecodeRequest {
  return DecodeRequest.fromPartial({ requestId, maxTokens });
}

async function read(
  events: AsyncIterable<DecodeEvent>,
): Promise<(number | string)[]> {
  const seen: (number | string)[] = [];
  for await (const { event } of events) {
    seen.push(
      event?.$case === "tokens" ? event.value.tokens[0].id : `${event?.$case}`,
    );
  }
  return seen;
}

beforeEach(async () => {
  calls.clear();
  server = await start();
  link = new DecodeLink(connect(DecodeClient, `127.0.0.1:${server.port}`));
});

afterEach(async () => {
  link[Symbol.dispose]();
  await server.close(0);
});

test("sequences on one link keep apart, each in order and with its end", async () => {
  const counts = [3, 1, 7, 5, 2];
  const seen = await Promise.all(
    counts.map((count, i) => read(link.generate(request(`s${i}`, count)))),
  );
  deepEqual(seen, counts.map((count) => [...Array(count).keys(), "finished"]));
});

test("the tokens of a step travel in one message", async () => {
  const client = connect(DecodeClient, `127.0.0.1:${server.port}`);
  const duplex = openDuplex<LinkBatch, LinkCommand>((metadata) =>
    client.attach(metadata)
  );
  let messages = 0;
  let ended = 0;
  duplex.onMessage = ({ items }) => {
    messages++;
    ended += items.filter((item) => item.ended).length;
  };
  for (let i = 0; i < 32; i++) {
    duplex.write(startOf({ sequence: i, tokens: 20 }));
  }
  await waitFor(() => ended === 32);
  // 32 sequences of 20 tokens: one message per event would be 700.
  ok(messages < 100, `${messages} messages`);
  duplex.cancel();
  client.close();
});

function startOf({ sequence, tokens }: { sequence: number; tokens: number }) {
  return {
    command: {
      $case: "start" as const,
      value: {
        sequence,
        request: request(`m${sequence}`, tokens),
        traceContext: {},
        timeoutMs: 0,
      },
    },
  };
}

test("a failure is the last event, a silent end is an end without one", async () => {
  deepEqual(await read(link.generate(request("fail", 2))), [0, 1, "error"]);
  deepEqual(await read(link.generate(request("silent", 1))), [0]);
});

test("aborting, and leaving the loop, cancel that sequence alone", async () => {
  const other = read(link.generate(request("other", 60)));
  const controller = new AbortController();
  const aborted = read(
    link.generate(request("aborted", 1e6), { signal: controller.signal }),
  );
  await waitFor(() => calls.has("aborted"));
  controller.abort(new Error("enough"));
  await rejects(aborted, { message: "enough" });
  for await (const _ of link.generate(request("left", 1e6))) break;
  await waitFor(() =>
    calls.get("aborted")!.signal.aborted && calls.get("left")!.signal.aborted
  );
  equal(calls.get("other")!.signal.aborted, false);
  equal((await other).length, 61);
});

test("the deadline of a sequence reaches the worker", async () => {
  const deadlineMs = Date.now() + 60;
  await read(link.generate(request("late", 1e6), { deadlineMs }));
  const { signal } = calls.get("late")!;
  equal((signal.reason as MeshError).code, Code.deadlineExceeded);
});

test("a dead worker fails all sequences as unavailable; the link comes back", async () => {
  const running = ["a", "b"].map((id) => read(link.generate(request(id, 1e6))));
  const failed = Promise.all(
    running.map((each) => rejects(each, { code: Code.unavailable })),
  );
  await waitFor(() => calls.size === 2);
  const { port } = server;
  await server.close(0);
  await failed;
  server = await start(port);
  await waitFor(async () => {
    try {
      return (await read(link.generate(request("again", 1)))).length === 2;
    } catch {
      return false;
    }
  });
});

test("a link that ends cancels its sequences at the worker", async () => {
  const running = read(link.generate(request("left", 1e6)));
  const failed = rejects(running);
  await waitFor(() => calls.has("left"));
  link[Symbol.dispose]();
  await failed;
  await waitFor(() => calls.get("left")!.signal.aborted);
});

test("retire() lets running sequences end", async () => {
  const running = read(link.generate(request("last", 20)));
  await waitFor(() => calls.has("last"));
  link.retire();
  equal((await running).length, 21);
});

test("a reader that falls behind loses its sequence, the others go on", async () => {
  const small = new DecodeLink(
    connect(DecodeClient, `127.0.0.1:${server.port}`),
    { unreadMax: 100 },
  );
  const events = small.generate(request("flood", 1e6))
    [Symbol.asyncIterator]();
  await waitFor(() => calls.get("flood")?.signal.aborted === true);
  await rejects(async () => {
    for (;;) {
      if ((await events.next()).done) {
        throw new Error("it ended as if all were well");
      }
    }
  }, SlowReaderError);
  equal((await read(small.generate(request("other", 3)))).length, 4);
  small[Symbol.dispose]();
});

test("a number used twice cuts the link", async () => {
  const client = connect(DecodeClient, `127.0.0.1:${server.port}`);
  const duplex = openDuplex<LinkBatch, LinkCommand>((metadata) =>
    client.attach(metadata)
  );
  let isOver = false;
  duplex.onEnd = () => isOver = true;
  duplex.write(startOf({ sequence: 1, tokens: 1e6 }));
  duplex.write(startOf({ sequence: 1, tokens: 1e6 }));
  await waitFor(() => isOver && calls.get("m1")!.signal.aborted);
  client.close();
});

import { deepEqual, equal, ok, rejects } from "node:assert/strict";
import { afterAll, beforeAll, test } from "vitest";
import * as grpc from "@grpc/grpc-js";
import {
  GenerateRequest,
  type GenerateResponse,
  InferenceClient,
  InferenceService,
} from "../../proto/gen/quetzal/v1/inference.ts";
import { Code, MeshError } from "../errors/mesh_error.ts";
import {
  callStream,
  callUnary,
  connect,
  fromStreamError,
  type RpcServer,
  serverStream,
  startRpcServer,
  toStreamError,
  unary,
} from "./mod.ts";

const seen = { aborted: undefined as unknown, written: 0, header: "" };
let server: RpcServer;
let client: InferenceClient;

function delta(text: string): GenerateResponse {
  return { event: { $case: "delta", value: { text, tokens: [] } } };
}

/** `model` says what the fake does. */
const generate = serverStream<GenerateRequest, GenerateResponse>(
  async (request, call, sink) => {
    seen.header = call.header("x-extra") ?? "";
    if (request.model === "fail") {
      sink.write(delta("a"));
      throw new MeshError(Code.resourceExhausted, "Cannot queue: full", {
        field: "model",
        retryAfterMs: 70,
      });
    }
    if (request.model === "hang") {
      await new Promise((resolve) =>
        call.signal.addEventListener("abort", resolve)
      );
      seen.aborted = call.signal.reason;
      return;
    }
    const text = "x".repeat(request.model === "flood" ? 10_000 : 1);
    for (seen.written = 0; seen.written < request.maxTokens; seen.written++) {
      await sink.write(delta(text));
      if (call.signal.aborted) return;
    }
  },
  (reason) => ({ event: { $case: "error", value: toStreamError(reason) } }),
);

beforeAll(async () => {
  server = await startRpcServer({
    port: 0,
    services: [{
      name: "quetzal.v1.Inference",
      definition: InferenceService,
      implementation: {
        generate,
        tokenize: unary((request: { text: string }) => {
          if (request.text === "") {
            throw new MeshError(
              Code.invalidArgument,
              "Cannot tokenize: text is empty",
              { field: "téxt[0]", retryAfterMs: 70 },
            );
          }
          return { ids: [request.text.length], contextLength: 1 };
        }),
        detokenize: unary(() => ({ text: "" })),
        listModels: unary(() => ({ models: [] })),
      },
    }],
  });
  client = connect(InferenceClient, `127.0.0.1:${server.port}`);
});

afterAll(async () => {
  client.close();
  await server.close(1_000);
});

function call(model: string, options = {}, maxTokens = 3) {
  const request = GenerateRequest.fromPartial({ model, maxTokens });
  return callStream(client.generate.bind(client), request, options);
}

async function texts(
  stream: AsyncIterable<GenerateResponse>,
): Promise<string[]> {
  const out: string[] = [];
  for await (const { event } of stream) {
    out.push(event?.$case === "delta" ? event.value.text : `${event?.$case}`);
  }
  return out;
}

test("callStream() yields every message, with metadata sent along", async () => {
  deepEqual(await texts(call("ok", { metadata: { "x-extra": "1" } })), [
    "x",
    "x",
    "x",
  ]);
  equal(seen.header, "1");
});

test("a failure comes in-band behind the messages before it", async () => {
  const events = [];
  for await (const { event } of call("fail")) events.push(event);
  equal(events.length, 2);
  ok(events[1]?.$case === "error");
  const error = fromStreamError(events[1].value);
  deepEqual(
    [error.code, error.field, error.retryAfterMs],
    [Code.resourceExhausted, "model", 70],
  );
});

test("aborting the signal cancels the handler and throws the reason", async () => {
  const controller = new AbortController();
  const reading = texts(call("hang", { signal: controller.signal }));
  setTimeout(() => controller.abort(new Error("enough")), 50);
  await rejects(reading, { message: "enough" });
  await waitUntil(() => seen.aborted !== undefined);
  equal((seen.aborted as MeshError).code, Code.cancelled);
});

test("a deadline ends the call on both sides", async () => {
  seen.aborted = undefined;
  await rejects(texts(call("hang", { deadlineMs: Date.now() + 80 })), {
    code: Code.deadlineExceeded,
  });
  await waitUntil(() => seen.aborted !== undefined);
});

test("leaving the loop cancels the handler", async () => {
  for await (const _ of call("flood", { bufferMax: 4 }, 1_000_000)) break;
  let before = -1;
  await waitUntil(() => before === (before = seen.written));
  ok(seen.written < 1_000_000, `${seen.written} messages were written`);
});

test("callUnary() answers, and maps statuses to MeshError", async () => {
  const method = client.tokenize.bind(client);
  const answer = await callUnary(method, { model: "", text: "four" });
  deepEqual(answer.ids, [4]);
  await rejects(callUnary(method, { model: "", text: "" }), {
    name: "MeshError",
    code: Code.invalidArgument,
    message: "Cannot tokenize: text is empty",
    field: "téxt[0]",
    retryAfterMs: 70,
  });
});

test("an unreachable server is unavailable", async () => {
  const nobody = connect(InferenceClient, "127.0.0.1:1");
  await rejects(callUnary(nobody.listModels.bind(nobody), {}), {
    code: Code.unavailable,
  });
  nobody.close();
});

test("health follows setServing()", async () => {
  const check = grpc.makeGenericClientConstructor({
    check: {
      path: "/grpc.health.v1.Health/Check",
      requestStream: false,
      responseStream: false,
      requestSerialize: (bytes: Buffer) => bytes,
      requestDeserialize: (bytes: Buffer) => bytes,
      responseSerialize: (bytes: Buffer) => bytes,
      responseDeserialize: (bytes: Buffer) => bytes,
    },
  }, "Health");
  const health = new check(
    `127.0.0.1:${server.port}`,
    grpc.credentials.createInsecure(),
  );
  const status = () =>
    new Promise<number>((resolve, reject) =>
      health.check(
        Buffer.alloc(0),
        (error: Error | null, answer: Buffer) =>
          error ? reject(error) : resolve(answer[1]),
      )
    );
  equal(await status(), 2);
  server.setServing(true);
  equal(await status(), 1);
  health.close();
});

async function waitUntil(condition: () => boolean): Promise<void> {
  for (let i = 0; i < 200 && !condition(); i++) {
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  ok(condition(), "the condition did not come true within 2 s");
}

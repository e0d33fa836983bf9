/** A thousand random and broken requests: each gets a proper answer. */
import { deepEqual, equal, ok } from "node:assert/strict";
import { connect as connectTcp } from "node:net";
import { afterAll, beforeAll, test } from "vitest";
import { callStream, connect } from "../../lib/rpc/mod.ts";
import { MeshError } from "../../lib/errors/mesh_error.ts";
import {
  GenerateRequest,
  InferenceClient,
} from "../../proto/gen/quetzal/v1/inference.ts";
import { ask } from "./ask.ts";
import { type Mesh, startMesh } from "./start_mesh.ts";

let mesh: Mesh;
beforeAll(async () => {
  mesh = await startMesh({});
}, 90_000);
afterAll(async () => await mesh?.[Symbol.asyncDispose]());

const seed = Number(process.env.QUETZAL_TEST_SEED ?? Date.now() % 1_000_000);

/** mulberry32: small, seeded, good enough to choose garbage. */
function randomOf(state: number): () => number {
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

const random = randomOf(seed);
const below = (n: number) => Math.floor(random() * n);
const pick = <T>(values: readonly T[]): T => values[below(values.length)];

/** Values that no field wants, and some that a few want. */
function oddValue(): unknown {
  return pick<() => unknown>([
    () => null,
    () => -1,
    () => 1e308,
    () => 0.5,
    () => 2 ** 53,
    () => "",
    () => "\u0000\ud800\u202e",
    () => "x".repeat(below(5_000)),
    () => [],
    () => [[]],
    () => ({}),
    () => ({ __proto__: { a: 1 }, constructor: 1 }),
    () => true,
    () => Array.from({ length: below(200) }, () => below(100_000) - 100),
    () => nested(below(300)),
  ])();
}

function nested(depth: number): unknown {
  let value: unknown = 1;
  for (let i = 0; i < depth; i++) {
    value = random() < 0.5 ? [value] : { a: value };
  }
  return value;
}

const fields = [
  "model",
  "messages",
  "prompt",
  "max_tokens",
  "max_completion_tokens",
  "temperature",
  "top_p",
  "top_k",
  "min_p",
  "n",
  "stop",
  "seed",
  "stream",
  "stream_options",
  "logprobs",
  "top_logprobs",
  "logit_bias",
  "presence_penalty",
  "frequency_penalty",
  "repetition_penalty",
  "min_tokens",
  "stop_token_ids",
  "response_format",
  "tools",
  "tool_choice",
  "user",
  "surprise",
];

function body(): string {
  const request: Record<string, unknown> = {
    model: "quetzal-demo",
    messages: [{ role: "user", content: "Hello!" }],
    prompt: "Hello",
    max_tokens: 4,
  };
  for (let i = below(4); i >= 0; i--) request[pick(fields)] = oddValue();
  const text = JSON.stringify(request);
  const kind = random();
  if (kind < 0.1) return text.slice(0, below(text.length));
  if (kind < 0.15) return text.replace(/[:,]/, pick(["", "::", "\u0000"]));
  return text;
}

const paths = [
  "/v1/chat/completions",
  "/v1/completions",
  "/tokenize",
  "/detokenize",
  "/v1/models",
  "/nowhere",
  "/%00/..%2f",
];

async function garbage(): Promise<string | undefined> {
  const path = pick(paths);
  const method = pick(["POST", "POST", "POST", "GET", "PUT", "DELETE"]);
  const response = await fetch(mesh.httpUrl + path, {
    method,
    headers: {
      "content-type": pick([
        "application/json",
        "application/json",
        "text/plain",
        "",
      ]),
    },
    body: method === "GET" ? undefined : body(),
    signal: AbortSignal.timeout(20_000),
  });
  const text = await response.text();
  if (response.status >= 500) {
    return `${response.status} ${method} ${path}: ${text}`;
  }
  if (response.status < 400) return undefined;
  try {
    const { error } = JSON.parse(text);
    if (typeof error.message === "string" && error.message.length > 5) {
      return undefined;
    }
  } catch {
    // Falls through to the complaint.
  }
  return `${response.status} ${method} ${path} without an error object: ${
    text.slice(0, 200)
  }`;
}

test(
  "800 broken HTTP requests: no 5xx, each refusal says what was wrong",
  async () => {
    const complaints: string[] = [];
    for (let i = 0; i < 80; i++) {
      const batch = await Promise.all(
        Array.from({ length: 10 }, () => garbage()),
      );
      complaints.push(...batch.filter((line) => line !== undefined));
    }
    deepEqual(complaints.slice(0, 5), [], `seed ${seed}`);
  },
  180_000,
);

test("150 broken gRPC requests end in-band or with tokens", async () => {
  const client = connect(InferenceClient, mesh.grpcAddress);
  for (let i = 0; i < 150; i++) {
    const request = GenerateRequest.fromPartial({
      model: pick(["quetzal-demo", "", "nothing", "\u0000", "x".repeat(2_000)]),
      maxTokens: pick([4, 0, -5, 2 ** 31 - 1]),
      stop: Array.from({ length: below(20) }, () => "s".repeat(below(3))),
      input: pick([
        undefined,
        { $case: "prompt" as const, value: "x".repeat(below(10_000)) },
        { $case: "tokens" as const, value: { ids: [below(9_000) - 100, 5] } },
        {
          $case: "chat" as const,
          value: {
            messages: [{ role: pick(["user", "", "king"]), content: "" }],
          },
        },
      ]),
      sampling: {
        temperature: pick([0, NaN, -1, Infinity, 1]),
        topK: pick([0, -3, 5]),
        topP: pick([undefined, 0, 2, NaN]),
        stopTokenIds: [below(9_000) - 100],
        logitBias: { [below(9_000) - 100]: pick([1, NaN, -Infinity]) },
      },
    });
    const outcomes = new Set<string>();
    try {
      const signal = AbortSignal.timeout(20_000);
      for await (
        const { event } of callStream(client.generate.bind(client), request, {
          signal,
        })
      ) {
        outcomes.add(event?.$case ?? "nothing");
        if (event?.$case === "error") {
          ok(event.value.code !== 13, `seed ${seed}: ${event.value.message}`);
        }
      }
    } catch (reason) {
      ok(reason instanceof MeshError, `seed ${seed}: ${reason}`);
      outcomes.add("error");
    }
    ok(
      outcomes.has("finished") || outcomes.has("error"),
      `seed ${seed}, request ${i}`,
    );
  }
  client.close();
}, 120_000);

test("50 broken connections leave no trace", async () => {
  const { port } = new URL(mesh.httpUrl);
  const grpcPort = mesh.grpcAddress.split(":")[1];
  const bytes = () =>
    Uint8Array.from({ length: below(3_000) }, () => below(256));
  await Promise.all(
    Array.from({ length: 50 }, () =>
      new Promise<void>((resolve) => {
        const socket = connectTcp(
          Number(pick([port, grpcPort])),
          "127.0.0.1",
          () => {
            socket.write(
              pick([
                "POST /v1/chat/completions HTTP/1.1\r\ncontent-length: 99\r\n\r\n{",
                "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
                "",
              ]),
            );
            socket.write(bytes());
            setTimeout(() => socket.destroy(), below(200));
          },
        );
        socket.on("error", () => {});
        socket.on("close", () => resolve());
      })),
  );
});

test("the mesh still serves, with the processes it started with", async () => {
  const answer = await ask(mesh, {
    content: "What is the KV cache?",
    max_tokens: 16,
  });
  equal(answer.status, 200);
  ok(answer.text.length > 10);
  for (const { pid } of mesh.processes) process.kill(pid, 0);
});

/** Real clients against a real mesh, on both runtimes of the request path. */
import { deepEqual, equal, ok, rejects } from "node:assert/strict";
import { afterAll, beforeAll, describe, test } from "vitest";
import { ChatOpenAI } from "@langchain/openai";
import OpenAI, { APIUserAbortError, BadRequestError } from "openai";
import { callStream, callUnary, connect } from "../../lib/rpc/mod.ts";
import {
  GenerateRequest,
  InferenceClient,
} from "../../proto/gen/quetzal/v1/inference.ts";
import {
  GRPCInferenceServiceClient,
  ModelInferRequest,
} from "../../proto/gen/inference/grpc_service.ts";
import { reflectedClient } from "./reflected_client.ts";
import { type Mesh, type Runtime, startMesh } from "./start_mesh.ts";

const model = "quetzal-demo";
const question = "What is the KV cache?";
const messages = [{ role: "user" as const, content: question }];

for (const runtime of ["bun", "deno"] satisfies Runtime[]) {
  describe(`on ${runtime}`, () => {
    let mesh: Mesh;
    let openai: OpenAI;

    beforeAll(async () => {
      mesh = await startMesh({ runtime });
      openai = new OpenAI({
        baseURL: `${mesh.httpUrl}/v1`,
        apiKey: "none",
        maxRetries: 0,
      });
    }, 90_000);

    afterAll(async () => await mesh?.[Symbol.asyncDispose]());

    const ask = (max_tokens = 40) =>
      openai.chat.completions.create({
        model,
        messages,
        temperature: 0,
        max_tokens,
      });

    test("openai: a chat answer with usage", async () => {
      const answer = await ask(64);
      const text = answer.choices[0].message.content ?? "";
      ok(/key|value|token|attention|memory/i.test(text), text);
      const { usage } = answer;
      ok(usage && usage.prompt_tokens > 5 && usage.completion_tokens > 5);
      equal(usage.total_tokens, usage.prompt_tokens + usage.completion_tokens);
      ok(["stop", "length"].includes(answer.choices[0].finish_reason));
    });

    test("openai: the stream's text is the answer's text, usage comes last", async () => {
      const stream = await openai.chat.completions.create({
        model,
        messages,
        temperature: 0,
        max_tokens: 40,
        stream: true,
        stream_options: { include_usage: true },
      });
      let text = "";
      let usage;
      for await (const chunk of stream) {
        text += chunk.choices[0]?.delta.content ?? "";
        usage = chunk.usage ?? usage;
      }
      const whole = await ask(40);
      equal(text, whole.choices[0].message.content);
      equal(usage?.completion_tokens, whole.usage?.completion_tokens);
    });

    test("openai: logprobs, n, stop and seed", async () => {
      const common = {
        model,
        messages,
        max_tokens: 24,
        temperature: 1,
        seed: 7,
      };
      const first = await openai.chat.completions.create({
        ...common,
        n: 3,
        logprobs: true,
        top_logprobs: 2,
      });
      equal(first.choices.length, 3);
      for (const { logprobs, message } of first.choices) {
        ok(logprobs?.content && logprobs.content.length > 0);
        equal(
          logprobs.content.map(({ token }) => token).join(""),
          message.content,
        );
        for (const { logprob, top_logprobs } of logprobs.content) {
          ok(logprob <= 0 && top_logprobs.length === 2);
          ok(top_logprobs[0].logprob >= top_logprobs[1].logprob);
        }
      }
      const again = await openai.chat.completions.create({ ...common, n: 3 });
      deepEqual(
        again.choices.map(({ message }) => message.content),
        first.choices.map(({ message }) => message.content),
      );

      const full = (await ask(40)).choices[0].message.content ?? "";
      const word = full.split(" ")[4];
      const cut = await openai.chat.completions.create({
        model,
        messages,
        temperature: 0,
        max_tokens: 40,
        stop: [` ${word}`],
      });
      equal(
        cut.choices[0].message.content,
        full.slice(0, full.indexOf(` ${word}`)),
      );
      equal(cut.choices[0].finish_reason, "stop");
    });

    test("openai: text completions continue the prompt", async () => {
      const answer = await openai.completions.create({
        model,
        prompt: "Once upon a time",
        max_tokens: 12,
        temperature: 0,
      });
      ok(answer.choices[0].text.length > 5);
      equal(answer.usage?.completion_tokens, 12);
    });

    test("openai: aborting a stream ends it and frees the sequence", async () => {
      const controller = new AbortController();
      const stream = await openai.chat.completions.create(
        { model, messages, max_tokens: 900, stream: true, temperature: 1 },
        { signal: controller.signal },
      );
      let chunks = 0;
      try {
        for await (const _ of stream) if (++chunks === 3) controller.abort();
      } catch (error) {
        ok(error instanceof APIUserAbortError);
      }
      ok(chunks < 900);
      await untilIdle(mesh);
    });

    test("openai: a prompt beyond the context names both lengths", async () => {
      const long = [{ role: "user" as const, content: "word ".repeat(3_000) }];
      await rejects(
        openai.chat.completions.create({ model, messages: long }),
        (error) => {
          ok(error instanceof BadRequestError);
          equal(error.code, "context_length_exceeded");
          ok(
            /1024/.test(error.message) && /\d{4}/.test(error.message),
            error.message,
          );
          return true;
        },
      );
    });

    test("LangChain's ChatOpenAI invokes and streams", async () => {
      const chat = new ChatOpenAI({
        model,
        temperature: 0,
        maxTokens: 32,
        apiKey: "none",
        maxRetries: 0,
        configuration: { baseURL: `${mesh.httpUrl}/v1` },
      });
      const whole = await chat.invoke(question);
      let text = "";
      for await (const chunk of await chat.stream(question)) {
        text += chunk.content;
      }
      equal(text, whole.content);
      ok(text.length > 10);
    });

    test("gRPC: Generate streams the text that HTTP answers", async () => {
      const client = connect(InferenceClient, mesh.grpcAddress);
      const request = GenerateRequest.fromPartial({
        model,
        maxTokens: 40,
        input: { $case: "chat", value: { messages } },
      });
      let text = "";
      let finished;
      for await (
        const { event } of callStream(client.generate.bind(client), request)
      ) {
        if (event?.$case === "delta") text += event.value.text;
        if (event?.$case === "finished") finished = event.value;
        if (event?.$case === "error") throw new Error(event.value.message);
      }
      const whole = await ask(40);
      equal(text, whole.choices[0].message.content);
      equal(finished?.completionTokens, whole.usage?.completion_tokens);
      client.close();
    });

    test("gRPC: a client that knows only reflection can generate", async () => {
      using client = await reflectedClient(
        mesh.grpcAddress,
        "quetzal.v1.Inference",
      );
      const events = await client.stream("Generate", {
        model,
        prompt: "Once upon a time",
        max_tokens: 5,
      });
      const last = events.at(-1) as {
        finished?: { completion_tokens: number };
      };
      equal(last.finished?.completion_tokens, 5);
    });

    test("KServe v2: ModelInfer takes and gives BYTES text", async () => {
      const client = connect(GRPCInferenceServiceClient, mesh.grpcAddress);
      const ready = await callUnary(client.modelReady.bind(client), {
        name: model,
        version: "",
      });
      equal(ready.ready, true);
      const infer = (contents: object) =>
        callUnary(
          client.modelInfer.bind(client),
          ModelInferRequest.fromPartial({
            modelName: model,
            id: "a1",
            parameters: {
              max_tokens: {
                parameterChoice: { $case: "int64Param", value: 12n },
              },
            },
            ...contents,
          }),
        );
      const tensor = { name: "text_input", datatype: "BYTES", shape: [1n] };
      const prompt = new TextEncoder().encode("Once upon a time");
      const typed = await infer({
        inputs: [{ ...tensor, contents: { bytesContents: [prompt] } }],
      });
      const raw = await infer({
        inputs: [tensor],
        rawInputContents: [withLength(prompt)],
      });
      const text = (response: typeof typed) => {
        const bytes = response.outputs[0].contents?.bytesContents[0] ??
          response.rawOutputContents[0]?.subarray(4);
        return new TextDecoder().decode(bytes);
      };
      equal(typed.id, "a1");
      ok(text(typed).length > 5);
      equal(text(raw), text(typed));
      await rejects(
        infer({ inputs: [{ ...tensor, datatype: "FP32" }] }),
        /FP32/,
      );
      client.close();
    });

    test("tokenize and detokenize are inverse", async () => {
      const post = async (path: string, body: object) => {
        const response = await fetch(mesh.httpUrl + path, {
          method: "POST",
          headers: { "content-type": "application/json" },
          body: JSON.stringify(body),
        });
        equal(response.status, 200);
        return await response.json();
      };
      const text = "Grüße, 世界! 👩‍🚀 12345\n";
      const { tokens, count } = await post("/tokenize", {
        model,
        prompt: text,
        add_special_tokens: false,
      });
      equal(count, tokens.length);
      equal((await post("/detokenize", { model, tokens })).prompt, text);
    });

    test("/metrics tells what was served, under the names of vLLM", async () => {
      const text = await (await fetch(`${mesh.httpUrl}/metrics`)).text();
      const sum = text.match(/^quetzal:generation_tokens_total\{.*\} (\d+)$/m);
      ok(sum && Number(sum[1]) > 100, `${sum?.[0]}`);
      ok(/^quetzal:time_to_first_token_seconds_bucket\{/m.test(text));
      ok(
        /^quetzal:request_success_total\{.*finished_reason="stop"/m.test(text),
      );
    });
  });
}

function withLength(bytes: Uint8Array): Uint8Array {
  const out = new Uint8Array(4 + bytes.length);
  new DataView(out.buffer).setUint32(0, bytes.length, true);
  out.set(bytes, 4);
  return out;
}

/** Waits until the router counts no running request. */
async function untilIdle(mesh: Mesh): Promise<void> {
  const deadline = Date.now() + 5_000;
  for (;;) {
    const text = await (await fetch(`${mesh.httpUrl}/metrics`)).text();
    const running = text.match(/^quetzal:num_requests_running\{.*\} (\d+)$/m);
    if (running && Number(running[1]) === 0) return;
    ok(Date.now() < deadline, `still running: ${running?.[0]}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

/**
 * CPU time a router spends per streamed token: `bun services/router/testing/token_cost.ts`.
 *
 * The router runs alone in this process; a second one of the same runtime plays
 * the decode worker and the clients. Prints JSON for each door.
 */
import { spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { callStream, connect } from "../../../lib/rpc/mod.ts";
import {
  GenerateRequest,
  InferenceClient,
} from "../../../proto/gen/quetzal/v1/inference.ts";
import { testRouter } from "./demo.ts";
import { FakeDecode } from "./fake_decode.ts";
import { workerRecord } from "./records.ts";

const streams = 32;
const tokens = 900;
const rounds = 4;

if (process.argv[2] === "load") await load(process.argv[3], process.argv[4]);
else await measure();

async function measure(): Promise<void> {
  await using mesh = await testRouter();
  for (const door of ["http", "grpc"]) {
    const port = door === "http" ? mesh.router.httpPort : mesh.router.grpcPort;
    const args = process.versions.bun ? [] : ["run", "-A"];
    const child = spawn(process.execPath, [
      ...args,
      process.argv[1],
      "load",
      door,
      `${port}`,
    ], {
      stdio: ["pipe", "pipe", "inherit"],
    });
    let before = process.cpuUsage();
    let startMs = 0;
    let renewal: ReturnType<typeof setInterval> | undefined;
    const figures: { userUs: number; systemUs: number; tokensPerS: number }[] =
      [];
    for await (const line of createInterface({ input: child.stdout })) {
      if (line.startsWith("at ")) {
        const record = workerRecord("w", { address: line.slice(3) });
        await mesh.bus.putWorker(record);
        renewal = setInterval(() => void mesh.bus.putWorker(record), 2_000);
        child.stdin.write("go\n");
      } else if (line === "begin") {
        before = process.cpuUsage();
        startMs = performance.now();
      } else if (line === "end") {
        const { user, system } = process.cpuUsage(before);
        const total = streams * tokens;
        const seconds = (performance.now() - startMs) / 1_000;
        figures.push({
          userUs: user / total,
          systemUs: system / total,
          tokensPerS: total / seconds,
        });
      }
    }
    clearInterval(renewal);
    const round = (pick: (figure: typeof figures[number]) => number) =>
      figures.map((figure) => Math.round(pick(figure) * 10) / 10);
    console.log(JSON.stringify({
      runtime: process.versions.bun ? "bun" : "deno",
      door,
      userUsPerToken: round(({ userUs }) => userUs),
      systemUsPerToken: round(({ systemUs }) => systemUs),
      tokensPerS: round(({ tokensPerS }) => tokensPerS),
    }));
  }
}

async function load(door: string, port: string): Promise<void> {
  await using worker = new FakeDecode({
    workerId: "w",
    script: (_, index) => 300 + index % 64,
  });
  await worker.start();
  console.log(`at ${worker.address}`);
  await new Promise((resolve) => process.stdin.once("data", resolve));
  for (let round = 0; round < rounds; round++) {
    console.log("begin");
    const one = door === "http" ? httpStream : grpcStream;
    await Promise.all(Array.from({ length: streams }, () => one(port)));
    console.log("end");
  }
  process.exit(0);
}

async function httpStream(port: string): Promise<void> {
  const response = await fetch(`http://127.0.0.1:${port}/v1/completions`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ prompt: "Once", max_tokens: tokens, stream: true }),
  });
  let bytes = 0;
  let last = "";
  for await (const chunk of response.body!) {
    bytes += chunk.length;
    last = new TextDecoder().decode(chunk.subarray(-300));
  }
  if (bytes < tokens * 50) {
    throw new Error(`Cannot measure: ${bytes} bytes came, at last ${last}`);
  }
}

async function grpcStream(port: string): Promise<void> {
  const client = connect(InferenceClient, `127.0.0.1:${port}`);
  const request = GenerateRequest.fromPartial({
    input: { $case: "prompt", value: "Once" },
    maxTokens: tokens,
  });
  let count = 0;
  for await (
    const { event } of callStream(client.generate.bind(client), request)
  ) {
    if (event?.$case === "error") throw new Error(event.value.message);
    count++;
  }
  client.close();
  if (count < tokens) {
    throw new Error(`Cannot measure: ${count} messages came`);
  }
}

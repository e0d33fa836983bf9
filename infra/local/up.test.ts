import { deepEqual, equal, match, ok } from "node:assert/strict";
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { readdirSync, readFileSync } from "node:fs";
import { createServer } from "node:net";
import type { AddressInfo } from "node:net";
import { createInterface } from "node:readline";
import { afterAll, beforeAll, test } from "vitest";
import {
  freePort,
  type TempDir,
  tempDir,
  waitFor,
} from "../../lib/testing/mod.ts";
import type { Answer } from "./answer.ts";

/** The commands themselves, against a mesh with a data folder and ports of its own. */
const folder = new URL(".", import.meta.url).pathname;

let data: TempDir;
let ports: { http: number; grpc: number };
let up: ChildProcess;
let ready: { http: string; grpc: string; models: string[]; logs: string };
let shown = "";

function args(script: string, ...rest: string[]): string[] {
  return ["run", "-A", `${folder}${script}.ts`, ...rest];
}

function run(script: string, ...rest: string[]) {
  return spawnSync(process.execPath, args(script, ...rest), {
    encoding: "utf8",
    env: { ...process.env, QUETZAL_DATA_FOLDER: data.path },
    timeout: 30_000,
  });
}

function ask(...rest: string[]) {
  return run("ask", ...rest);
}

function logs(): string {
  return readdirSync(ready.logs).map((name) =>
    `== ${name}\n${readFileSync(`${ready.logs}/${name}`, "utf8")}`
  ).join("\n");
}

/** Pids of processes that hold our data folder's settings or files. */
function processesOfMesh(): number[] {
  return readdirSync("/proc").filter((name) => /^\d+$/.test(name)).map(Number)
    .filter((pid) => pid !== process.pid && belongsToMesh(pid));
}

function belongsToMesh(pid: number): boolean {
  try {
    const environment = readFileSync(`/proc/${pid}/environ`, "utf8");
    return environment.includes(`QUETZAL_DATA_FOLDER=${data.path}`);
  } catch {
    return false;
  }
}

beforeAll(async () => {
  data = await tempDir("up");
  ports = { http: await freePort(), grpc: await freePort() };
  up = spawn(
    process.execPath,
    args(
      "up",
      "--json",
      ...["--http", `${ports.http}`],
      ...["--grpc", `${ports.grpc}`],
    ),
    {
      env: { ...process.env, QUETZAL_DATA_FOLDER: data.path },
      stdio: ["ignore", "pipe", "pipe"],
    },
  );
  up.stderr!.on("data", (chunk) => shown += chunk);
  const line = await Promise.race([
    once(createInterface({ input: up.stdout! }), "line"),
    once(up, "exit").then(() => {
      throw new Error(`up ended: ${shown}`);
    }),
  ]);
  ready = JSON.parse(line[0]);
}, 120_000);

afterAll(async () => {
  if (up.exitCode === null && up.signalCode === null) {
    up.kill("SIGKILL");
    await once(up, "exit");
  }
  await data[Symbol.asyncDispose]();
});

test("up says where it listens, what it serves, and how long each phase took", async () => {
  deepEqual(ready.models, ["quetzal-demo"]);
  equal(ready.http, `http://127.0.0.1:${ports.http}`);
  await waitFor(() => shown.includes("Ctrl-C stops it"));
  match(shown, /first answer +\d+\.\d+ s/);
  match(shown, /total +\d/);
});

test("ask finds that mesh and streams its answer", () => {
  const { status, stdout, stderr } = ask("What is the KV cache?");
  equal(status, 0, stderr);
  ok(stdout.trim().length > 10, stdout);
});

test("ask --json tells text, usage, timings and the trace", () => {
  const { status, stdout, stderr } = ask(
    "--json",
    "--max-tokens",
    "5",
    "--raw",
    "Once upon a time",
  );
  equal(status, 0, stderr);
  const answer = JSON.parse(stdout) as Answer;
  equal(answer.model, "quetzal-demo");
  equal(answer.finish_reason, "length");
  equal(answer.usage.completion_tokens, 5);
  ok(answer.usage.prompt_tokens > 0);
  ok(answer.timings.ttft_ms > 0);
  ok(answer.timings.total_ms >= answer.timings.ttft_ms);
  match(answer.trace_id, /^[0-9a-f]{32}$/);
  ok(answer.request_id.length > 0);
});

test("ask names a model that is not served, and ends with 1", () => {
  const { status, stderr } = ask("--model", "nope", "hello");
  equal(status, 1);
  match(stderr, /nope/);
});

test("ask without a mesh says how to start one", async () => {
  const { status, stderr } = ask(
    "--grpc",
    `127.0.0.1:${await freePort()}`,
    "x",
  );
  equal(status, 1);
  match(stderr, /Cannot ask: needs a mesh at .*, found none/);
  match(stderr, /task up/);
});

test("a second mesh with the same data folder is refused", () => {
  const { status, stderr } = run("up");
  equal(status, 1);
  match(stderr, /one runs there already \(pid \d+/);
});

test("a port that is taken is named, with its owner and the flag to change", async () => {
  const server = createServer();
  await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
  const { port } = server.address() as AddressInfo;
  await using other = await tempDir("up-second");
  const second = run("up", "--data", other.path, "--grpc", `${port}`);
  server.close();
  equal(second.status, 1);
  match(
    second.stderr,
    new RegExp(
      `Cannot serve gRPC on port ${port}: it is in use by .*\\(pid ${process.pid}\\)`,
    ),
  );
  match(second.stderr, /--grpc PORT or QUETZAL_GRPC_PORT/);
});

test("a worker that dies is started again, and answers", async () => {
  const decode = processesOfMesh().find((pid) =>
    readFileSync(`/proc/${pid}/cmdline`, "utf8").includes("services/decode/")
  );
  ok(decode, "there is a decode worker");
  process.kill(decode, "SIGKILL");
  await waitFor(() => shown.includes("decode-1 is back"), {
    what: "the worker's return",
    timeoutMs: 20_000,
  });
  match(shown, /decode-1 ended with signal SIGKILL; it starts again in 250 ms/);
  const { status, stderr } = ask("--max-tokens", "3", "Hello");
  equal(status, 0, `${stderr}\n${shown}\n${logs()}`);
}, 60_000);

test("SIGTERM stops everything it started", async () => {
  ok(processesOfMesh().length >= 5, "NATS, router, two workers and up itself");
  const ended = once(up, "exit");
  // Not `up.kill()`: with it Deno reports the signal, whatever the process did.
  process.kill(up.pid!, "SIGTERM");
  deepEqual(await ended, [0, null]);
  match(shown, /Stopping: SIGTERM/);
  deepEqual(processesOfMesh(), []);
}, 30_000);

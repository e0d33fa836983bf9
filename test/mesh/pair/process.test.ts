/** Worker processes with a NATS that comes late and restarts, on both runtimes. */
import { deepEqual, equal, ok } from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { afterEach, test } from "vitest";
import { connectBus, type WorkerRecord } from "../../../lib/bus/mod.ts";
import { writeTinyModel } from "../../../lib/engine/testing/tiny_model.ts";
import { connect } from "../../../lib/rpc/mod.ts";
import { startNats, tempDir, waitFor } from "../../../lib/testing/mod.ts";
import { DecodeClient } from "../../../proto/gen/quetzal/v1/decode.ts";
import { generate, promptOf, requestOf } from "./start_pair.ts";

let undo = new AsyncDisposableStack();
afterEach(async () => {
  await undo.disposeAsync();
  undo = new AsyncDisposableStack();
});

const root = join(import.meta.dirname!, "../../..");
const program = join(import.meta.dirname!, "reference_worker.ts");
const commands = {
  bun: [join(root, "node_modules/@oven/bun-linux-x64/bin/bun"), program],
  // Tests run under Deno themselves.
  deno: [process.execPath, "run", "-A", program],
};

interface WorkerProcess {
  readonly child: ChildProcess;
  readonly lines: Record<string, unknown>[];
  /** Waits for the log line with this message. */
  line(message: string): Promise<Record<string, unknown>>;
}

function startProcess(
  runtime: keyof typeof commands,
  role: "prefill" | "decode",
  env: Record<string, string>,
): WorkerProcess {
  const [command, ...args] = commands[runtime];
  const child = spawn(command, [...args, role], {
    cwd: root,
    env: {
      ...process.env,
      QUETZAL_WORKER_ID: `${role}-1`,
      QUETZAL_KV_BLOCKS: "48",
      [`QUETZAL_${role.toUpperCase()}_PORT`]: "0",
      ...env,
    },
    stdio: ["ignore", "inherit", "pipe"],
  });
  undo.defer(() => void child.kill("SIGKILL"));
  const lines: Record<string, unknown>[] = [];
  let rest = "";
  child.stderr!.on("data", (chunk) => {
    const parts = (rest + chunk).split("\n");
    rest = parts.pop()!;
    lines.push(
      ...parts.filter((part) => part.startsWith("{")).map((part) =>
        JSON.parse(part)
      ),
    );
  });
  const line = (message: string) =>
    waitFor(() => lines.find(({ msg }) => msg === message), {
      what: `"${message}" of ${role}`,
      timeoutMs: 15_000,
    });
  return { child, lines, line };
}

async function tinyModels(): Promise<string> {
  const folder = undo.use(await tempDir("process"));
  const path = join(folder.path, "tiny.gguf");
  writeTinyModel(path);
  return `tiny=${path}`;
}

function clientOf(address: string): { client: DecodeClient } {
  const client = connect(DecodeClient, address);
  undo.defer(() => client.close());
  return { client };
}

/** The records that are there within a moment. */
async function recordsOf(url: string): Promise<WorkerRecord[]> {
  await using bus = await connectBus({ url, name: "test" });
  const records = new Map<string, WorkerRecord>();
  const controller = new AbortController();
  const timer = setTimeout(() => controller.abort(), 200);
  try {
    for await (const change of bus.watchWorkers(controller.signal)) {
      if (change.kind === "put") {
        records.set(change.record.workerId, change.record);
      }
    }
  } finally {
    clearTimeout(timer);
  }
  return [...records.values()];
}

for (const runtime of ["bun", "deno"] as const) {
  test(`${runtime}: a pair outlives its NATS, hands over KV, and drains on SIGTERM`, async () => {
    const nats = undo.use(await startNats());
    await nats.kill();
    const env = {
      QUETZAL_MODELS: await tinyModels(),
      QUETZAL_NATS_URL: nats.url,
    };
    const prefill = startProcess(runtime, "prefill", env);
    const decode = startProcess(runtime, "decode", env);
    const listens = "The worker listens";
    const prefillAddress = String((await prefill.line(listens)).address);
    const decodeLine = await decode.line(listens);
    await decode.line("All models are loaded");
    await prefill.line("All models are loaded");
    const to = clientOf(String(decodeLine.address));
    const request = requestOf({
      model: "tiny",
      promptIds: promptOf(90).map((id) => id % 97),
      prefillAddress,
    });

    // Without NATS nobody vouches for the prefill worker, so decode computes.
    const alone = await generate(to, request);
    equal(alone.error, undefined);
    equal(alone.ids.length, 8);
    equal(alone.started?.transferredTokens, 0);

    await nats.restart();
    const registered = () =>
      waitFor(async () => {
        const records = await recordsOf(nats.url);
        return records.length === 2 && records;
      }, { what: "two records", timeoutMs: 15_000 });
    deepEqual(
      (await registered()).map(({ role, models }) => [role, models[0].model])
        .sort(),
      [["decode", "tiny"], ["prefill", "tiny"]],
    );
    await nats.restart({ loseData: true });
    await registered();

    const salted = {
      ...request,
      promptIds: promptOf(90, 5).map((id) => id % 97),
    };
    const pulled = await waitFor(async () => {
      const outcome = await generate(to, salted);
      return Number(outcome.started?.transferredTokens) > 0 && outcome;
    }, { what: "a transfer" });
    const again = await generate(to, { ...salted, prefillAddress: "" });
    deepEqual(again.ids, pulled.ids);

    const metricsUrl = `http://127.0.0.1:${decodeLine.metricsPort}`;
    const metrics = await (await fetch(`${metricsUrl}/metrics`)).text();
    ok(
      /quetzal:kv_transfer_bytes_total\{model_name="tiny"\} [1-9]/.test(
        metrics,
      ),
      metrics,
    );
    ok(
      /quetzal:kv_transfer_errors_total\{.*reason="unknown_address"\} 1/.test(
        metrics,
      ),
    );
    equal((await fetch(`${metricsUrl}/health`)).status, 200);

    const running = generate(to, { ...request, maxTokens: 120 });
    await waitFor(async () => {
      const text = await (await fetch(`${metricsUrl}/metrics`)).text();
      const count = /generation_tokens_total\{[^}]*\} (\d+)/.exec(text)?.[1];
      return Number(count) > pulled.ids.length + 25;
    });
    const exit = once(decode.child, "exit");
    // Under Deno `child.kill()` makes "exit" report the signal, whatever the exit code.
    process.kill(decode.child.pid!, "SIGTERM");
    const { ids, error } = await running;
    equal(error, undefined);
    equal(ids.length, 120);
    deepEqual(await exit, [0, null]);
    deepEqual((await recordsOf(nats.url)).map(({ role }) => role), ["prefill"]);
  });
}

test("a second SIGTERM ends a draining worker at once", async () => {
  const decode = startProcess("bun", "decode", {
    QUETZAL_MODELS: await tinyModels(),
    QUETZAL_NATS_URL: "nats://127.0.0.1:9",
  });
  const { address } = await decode.line("The worker listens");
  await decode.line("All models are loaded");
  const request = requestOf({
    model: "tiny",
    promptIds: promptOf(9),
    maxTokens: 240,
  });
  const running = generate(clientOf(String(address)), request).catch(() =>
    undefined
  );
  await new Promise((resolve) => setTimeout(resolve, 100));
  const exit = once(decode.child, "exit");
  process.kill(decode.child.pid!, "SIGTERM");
  await decode.line("Draining");
  process.kill(decode.child.pid!, "SIGTERM");
  deepEqual(await exit, [1, null]);
  await running;
});

test("a model that cannot be loaded ends the worker with an error in its log", async () => {
  const decode = startProcess("bun", "decode", {
    QUETZAL_MODELS: "gone=/nowhere/gone.gguf",
    QUETZAL_NATS_URL: "nats://127.0.0.1:9",
  });
  deepEqual(await once(decode.child, "exit"), [1, null]);
  ok(JSON.stringify(decode.lines.at(-1)).includes("/nowhere/gone.gguf"));
});

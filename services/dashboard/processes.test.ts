/** The service as a process on both runtimes, and the commands that ask it. */
import { deepEqual, equal, match, ok } from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { describe, test } from "vitest";
import { freePort, tempDir, waitFor } from "../../lib/testing/mod.ts";
import type { TraceList } from "./api_types.ts";
import { demoRequest, ProtobufTraceSerializer } from "./testing/spans.ts";

const folder = new URL(".", import.meta.url).pathname;
const bun = join(folder, "../../node_modules/@oven/bun-linux-x64/bin/bun");
const runtimes = {
  bun: [bun],
  deno: [process.execPath, "run", "-A", "--cached-only"],
} as const;

async function start(runtime: keyof typeof runtimes, data: string) {
  const port = await freePort();
  const [program, ...args] = runtimes[runtime];
  const child = spawn(program, [...args, join(folder, "main.ts")], {
    env: {
      ...process.env,
      QUETZAL_DASHBOARD_PORT: `${port}`,
      QUETZAL_DASHBOARD_DATA: data,
      QUETZAL_CAPTURE_CONTENT: "true",
    },
    stdio: ["ignore", "ignore", "pipe"],
  });
  let log = "";
  child.stderr.on("data", (chunk) => log += chunk);
  const url = `http://127.0.0.1:${port}`;
  await waitFor(async () => {
    if (child.exitCode !== null) throw new Error(`It ended: ${log}`);
    return await fetch(`${url}/health`).then((r) => r.ok, () => false);
  }, { what: `the dashboard under ${runtime}`, timeoutMs: 25_000 });
  return {
    url,
    async stop(signal: NodeJS.Signals = "SIGTERM") {
      const exit = once(child, "exit");
      // Deno's `child.kill()` reports the signal in place of the exit code.
      globalThis.process.kill(child.pid!, signal);
      const [code] = await exit;
      return { code, log };
    },
  };
}

for (const runtime of ["bun", "deno"] as const) {
  describe(runtime, () => {
    test("takes spans, keeps them across SIGTERM and SIGKILL, answers the commands", async () => {
      await using data = await tempDir("dashboard");
      let process = await start(runtime, data.path);
      const spans = demoRequest({
        model: "evil\x1b[2J",
        prompt: "Hi",
        durationMs: 321,
      });
      const traceId = spans[0].spanContext().traceId;
      const send = () =>
        fetch(`${process.url}/v1/traces`, {
          method: "POST",
          headers: { "content-type": "application/x-protobuf" },
          body: ProtobufTraceSerializer.serializeRequest(spans) as BodyInit,
        });
      equal((await send()).status, 200);
      const { code, log } = await process.stop();
      equal(code, 0, log);

      process = await start(runtime, data.path);
      const list = async (): Promise<TraceList> =>
        await (await fetch(`${process.url}/api/traces`)).json();
      deepEqual((await list()).traces.map((t) => t.traceId), [traceId]);
      if (runtime === "bun") checkCommands(process.url, traceId);
      await process.stop("SIGKILL");

      const other = runtime === "bun" ? "deno" : "bun";
      process = await start(other, data.path);
      deepEqual((await list()).traces.map((t) => t.spanCount), [5]);
      await process.stop();
    });
  });
}

function checkCommands(url: string, traceId: string): void {
  const run = (name: string, ...args: string[]) => {
    const [program, ...rest] = runtimes.deno;
    const script = join(folder, "cli", `${name}.ts`);
    return spawnSync(program, [...rest, script, "--dashboard", url, ...args], {
      encoding: "utf8",
      timeout: 20_000,
    });
  };
  const table = run("traces").stdout;
  match(table, new RegExp(traceId.slice(0, 12)));
  ok(
    !table.includes("\x1b[2J"),
    "control characters do not reach the terminal",
  );
  const json = run("traces", "list", "--status", "ok", "--json").stdout;
  equal(JSON.parse(json).traces[0].traceId, traceId);
  const shown = run("traces", "show", traceId.slice(0, 8)).stdout;
  match(shown, /321 ms/);
  match(shown, /→ {2}decode {2}decode-1/);
  match(shown, /4 tokens \(3 plain, 1 accepted\)/);
  const refused = run("traces", "--ordr", "newest");
  equal(refused.status, 2);
  match(refused.stderr, /traces --help/);
  const top = JSON.parse(run("top", "--json").stdout);
  deepEqual(top.mesh.workers, []);
}

import { deepEqual, equal, match } from "node:assert/strict";
import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { test } from "vitest";
import { tempDir } from "../testing/mod.ts";
import { createLogger, startSpan, startTelemetry } from "./mod.ts";
import { writeFile } from "node:fs/promises";

function logTo(lines: string[], options = {}) {
  return createLogger({
    service: "decode",
    write: (line) => lines.push(line),
    ...options,
  });
}

test("a line is JSON with time, level and service", () => {
  const lines: string[] = [];
  logTo(lines).warn({ blocks: 3 }, "pool is nearly full");
  const { time, ...rest } = JSON.parse(lines[0]);
  match(time, /^\d{4}-\d\d-\d\dT[\d:.]+Z$/);
  deepEqual(rest, {
    level: "warn",
    service: "decode",
    blocks: 3,
    msg: "pool is nearly full",
  });
});

test("a line inside a span carries its ids, one outside does not", async () => {
  await using telemetry = startTelemetry({
    service: "decode",
    version: "0",
    endpoint: "http://127.0.0.1:9",
    shutdownTimeoutMs: 50,
  });
  const lines: string[] = [];
  const log = logTo(lines);
  using open = startSpan({ tracer: telemetry.tracer(), name: "step" });
  await open.run(async () => {
    await Promise.resolve();
    log.info("inside");
  });
  log.info("outside");
  const [inside, outside] = lines.map((line) => JSON.parse(line));
  equal(inside.trace_id, open.span.spanContext().traceId);
  equal(inside.span_id, open.span.spanContext().spanId);
  equal(outside.trace_id, undefined);
});

test("the level holds back what is below it", () => {
  const lines: string[] = [];
  const log = logTo(lines, { level: "warn" });
  log.info("quiet");
  log.error("loud");
  equal(lines.length, 1);
});

test("credentials are redacted, errors keep message and stack", () => {
  const lines: string[] = [];
  logTo(lines).error({
    headers: { authorization: "Bearer x" },
    apiKey: "k",
    err: new Error("boom"),
  }, "failed");
  const line = JSON.parse(lines[0]);
  equal(line.headers.authorization, "[redacted]");
  equal(line.apiKey, "[redacted]");
  equal(line.err.message, "boom");
  match(line.err.stack, /logger\.test\.ts/);
});

test("pretty lines are for people", () => {
  const lines: string[] = [];
  logTo(lines, { pretty: true }).info({ port: 8080 }, "listening");
  match(
    lines[0],
    /^\d\d:\d\d:\d\d\.\d{3} INFO {2}decode: listening port=8080\n$/,
  );
});

test("lines written just before the process ends are not lost", async () => {
  await using dir = await tempDir("logger");
  const program = `${dir.path}/main.ts`;
  const door = new URL("./mod.ts", import.meta.url);
  await writeFile(
    program,
    `import { createLogger } from "${door}";
     const log = createLogger({ service: "router" });
     for (let i = 0; i < 200; i++) log.info({ i }, "last words");
     process.exit(3);`,
  );
  const config = new URL("../../deno.json", import.meta.url).pathname;
  const args = process.versions.bun
    ? [program]
    : ["run", "--config", config, "-A", program];
  const failure = await promisify(execFile)(process.execPath, args)
    .catch((error) => error);
  equal(failure.code, 3);
  const lines = failure.stderr.trim().split("\n").map(JSON.parse);
  equal(lines.at(-1).i, 199);
  equal(failure.stdout, "");
});

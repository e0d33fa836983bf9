import { deepEqual, equal } from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { test } from "vitest";
import { tempDir, waitFor } from "../../lib/testing/mod.ts";
import {
  type DaemonRecord,
  isAlive,
  logTail,
  startDaemon,
  stopDaemon,
} from "./daemon.ts";

function shell(folder: string, script: string): DaemonRecord {
  return startDaemon({
    name: "shell",
    program: "sh",
    args: ["-c", script],
    cwd: folder,
    logFile: join(folder, "shell.log"),
  }, "bound");
}

test("a daemon runs until it is stopped, and its log can be read", async () => {
  await using dir = await tempDir("daemon");
  const daemon = shell(dir.path, "echo up; exec sleep 60");
  await waitFor(() => logTail(daemon).includes("up"));
  equal(isAlive(daemon), true);
  await stopDaemon(daemon);
  equal(isAlive(daemon), false);
});

test("a program that is not there is a daemon that does not live", async () => {
  await using dir = await tempDir("daemon");
  const daemon = startDaemon({
    name: "none",
    program: join(dir.path, "none"),
    args: [],
    cwd: dir.path,
    logFile: join(dir.path, "none.log"),
  }, "detached");
  equal(isAlive(daemon), false);
  await stopDaemon(daemon);
});

test("another process with the same pid is left alone", async () => {
  const other = spawn("sleep", ["60"]);
  const record = { name: "x", pid: other.pid!, startMs: 1, logFile: "" };
  await stopDaemon(record);
  equal(other.exitCode, null);
  other.kill();
  deepEqual(await once(other, "exit"), [null, "SIGTERM"]);
});

test("a bound daemon ends with whoever started it, even when that one is killed", async () => {
  await using dir = await tempDir("daemon");
  const parent = spawn(process.execPath, [
    ...(process.versions.deno ? ["run", "-A", "--cached-only"] : []),
    new URL("./testing/start_and_wait.ts", import.meta.url).pathname,
    dir.path,
  ], { stdio: ["ignore", "pipe", "inherit"] });
  const [line] = await once(parent.stdout!, "data");
  const daemon = JSON.parse(`${line}`) as DaemonRecord;
  equal(isAlive(daemon), true);
  parent.kill("SIGKILL");
  await waitFor(() => !isAlive(daemon), { what: "the daemon's end" });
});

import { deepEqual, equal, match, ok, rejects } from "node:assert/strict";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "vitest";
import { tempDir, waitFor } from "../../lib/testing/mod.ts";
import type { RestartPolicy } from "./restart_policy.ts";
import {
  type ProcessSpec,
  Supervisor,
  type SupervisorEvent,
  type SupervisorOptions,
} from "./supervisor.ts";

const policy: RestartPolicy = {
  delayMs: 20,
  delayMsMax: 80,
  stableMs: 60_000,
  failuresMax: 3,
};

/** A shell script as a process; it is ready once it has made the file `ready`. */
function script(name: string, folder: string, text: string): ProcessSpec {
  const ready = join(folder, `${name}.ready`);
  return {
    name,
    launch: () =>
      Promise.resolve({
        command: {
          program: "/bin/sh",
          args: ["-c", text],
          env: { FOLDER: folder, READY: ready },
        },
        isReady: () => Promise.resolve(existsSync(ready)),
      }),
  };
}

async function scene(options: Partial<SupervisorOptions> = {}) {
  const dir = await tempDir("supervisor");
  const events: SupervisorEvent[] = [];
  const supervisor = new Supervisor({
    logFolder: join(dir.path, "logs"),
    policy,
    onEvent: (event) => events.push(event),
    ...options,
  });
  return {
    folder: dir.path,
    supervisor,
    events,
    ofKind<K extends SupervisorEvent["kind"]>(kind: K) {
      return events.filter((event): event is SupervisorEvent & { kind: K } =>
        event.kind === kind
      );
    },
    async [Symbol.asyncDispose]() {
      await supervisor.stop({ atOnce: true });
      await dir[Symbol.asyncDispose]();
    },
  };
}

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return !/^\d+ \(.*\) Z/.test(readFileSync(`/proc/${pid}/stat`, "utf8"));
  } catch {
    return false;
  }
}

test("start() resolves when the process is ready, and its lines are in its log", async () => {
  await using it = await scene();
  const { folder, supervisor } = it;
  await supervisor.start(
    script("one", folder, "echo hello; echo oops >&2; touch $READY; sleep 60"),
  );
  const log = join(folder, "logs/one.log");
  await waitFor(() => {
    const text = readFileSync(log, "utf8");
    return text.includes("hello") && text.includes("oops");
  }, { what: "both lines in the log" });
});

test("a dead process is started again, each time later", async () => {
  await using it = await scene();
  const { folder, supervisor, ofKind } = it;
  await supervisor.start(
    script("one", folder, "touch $READY; sleep 0.1; exit 7"),
  );
  await waitFor(() => ofKind("died").length >= 4, { what: "four deaths" });
  deepEqual(
    ofKind("died").slice(0, 4).map(({ how, restartMs }) => [how, restartMs]),
    [20, 40, 80, 80].map((delayMs) => ["exit code 7", delayMs]),
  );
  ok(ofKind("ready").some(({ again }) => again));
});

test("start() rejects with the end of the log when a process never gets ready", async () => {
  await using it = await scene();
  const { folder, supervisor, ofKind } = it;
  await rejects(
    supervisor.start(script("one", folder, "echo no such model; exit 1")),
    (error: Error & { hints: string[] }) => {
      match(
        error.message,
        /Cannot start one: it ended 3 times before it was ready, last with exit code 1/,
      );
      ok(error.hints.includes("| no such model"));
      return true;
    },
  );
  equal(ofKind("started").length, 3);
  equal(ofKind("gave-up").length, 1);
});

test("a program that is not there is named", async () => {
  await using it = await scene();
  const spec: ProcessSpec = {
    name: "ghost",
    launch: () =>
      Promise.resolve({
        command: { program: "/no/such/program", args: [] },
        isReady: () => Promise.resolve(false),
      }),
  };
  await rejects(
    it.supervisor.start(spec),
    (error: Error & { hints: string[] }) =>
      error.hints.some((line) => line.includes("/no/such/program")),
  );
});

test("stop() ends the last started first, and each before the next", async () => {
  await using it = await scene();
  const { folder, supervisor, ofKind } = it;
  const polite =
    "trap 'sleep 0.1; echo $0 >> $FOLDER/order; exit 0' TERM; touch $READY; while :; do sleep 0.02; done";
  for (const name of ["first", "second", "third"]) {
    const named = polite.replace("$0", name);
    await supervisor.start(script(name, folder, named));
  }
  await supervisor.stop();
  deepEqual(readFileSync(join(folder, "order"), "utf8").trim().split("\n"), [
    "third",
    "second",
    "first",
  ]);
  deepEqual(ofKind("stopped").map(({ name, forced }) => [name, forced]), [
    ["third", false],
    ["second", false],
    ["first", false],
  ]);
});

test("stop() kills a process that does not listen, and all of its group", async () => {
  await using it = await scene({ stopMs: 200 });
  const { folder, supervisor, ofKind } = it;
  await supervisor.start(script(
    "deaf",
    folder,
    "trap '' TERM; sleep 60 & echo $! > $FOLDER/pid; touch $READY; while :; do sleep 1; done",
  ));
  const startMs = performance.now();
  await supervisor.stop();
  ok(performance.now() - startMs < 2_000);
  equal(ofKind("stopped")[0].forced, true);
  const grandchild = Number(readFileSync(join(folder, "pid"), "utf8"));
  await waitFor(() => !isRunning(grandchild), { what: "the grandchild's end" });
});

test("stop() during the wait for a restart leaves nothing running", async () => {
  await using it = await scene({
    policy: { ...policy, delayMs: 60_000, delayMsMax: 60_000 },
  });
  const { folder, supervisor, ofKind } = it;
  await supervisor.start(
    script("one", folder, "touch $READY; sleep 0.1; exit 1"),
  );
  await waitFor(() => ofKind("died").length === 1, { what: "its death" });
  await supervisor.stop();
  equal(ofKind("started").length, 1);
});

test("errors in a log are passed on, other lines are not", async () => {
  await using it = await scene();
  const { folder, supervisor, ofKind } = it;
  writeFileSync(
    join(folder, "lines"),
    [
      '{"level":30,"msg":"fine"}',
      '{"level":50,"msg":"Cannot load","err":{"message":"bad magic"}}',
      "[12] 2026/01/01 [ERR] no space",
      "{ not json",
    ].join("\n") + "\n",
  );
  await supervisor.start(
    script("one", folder, "cat $FOLDER/lines; touch $READY; sleep 60"),
  );
  await waitFor(() => ofKind("complaint").length === 2, { what: "complaints" });
  deepEqual(ofKind("complaint").map(({ text }) => text), [
    "Cannot load: bad magic",
    "no space",
  ]);
});

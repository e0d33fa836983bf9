import { equal, ok } from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "vitest";
import { tempDir, waitFor } from "../../lib/testing/mod.ts";

/** A supervisor of its own, which writes its child's pid to `pid`. */
const program = `
import { writeFileSync } from "node:fs";
import { Supervisor } from "${new URL("./supervisor.ts", import.meta.url)}";
const supervisor = new Supervisor({
  logFolder: "logs",
  onEvent: (event) => event.kind === "started" && writeFileSync("pid", String(event.pid)),
});
await supervisor.start({
  name: "sleeper",
  launch: async () => ({
    command: { program: "/bin/sleep", args: ["300"] },
    isReady: async () => true,
  }),
});
console.log("ready");
setInterval(() => {}, 1_000);
`;

function commandOf(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, "utf8").replaceAll("\0", " ");
  } catch {
    return "";
  }
}

test("children of a supervisor that is killed outright are gone with it", async () => {
  await using dir = await tempDir("orphans");
  const main = join(dir.path, "main.ts");
  writeFileSync(main, program);
  const supervisor = spawn(process.execPath, ["run", "-A", main], {
    cwd: dir.path,
    stdio: ["ignore", "pipe", "inherit"],
  });
  await once(supervisor.stdout, "data");
  const pid = Number(readFileSync(join(dir.path, "pid"), "utf8"));
  ok(commandOf(pid).includes("sleep 300"), commandOf(pid));

  supervisor.kill("SIGKILL");
  await once(supervisor, "exit");
  await waitFor(() => commandOf(pid) === "", { what: "the sleeper's end" });
  equal(commandOf(pid), "");
});

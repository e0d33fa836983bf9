/**
 * `deno task test [filters and vitest flags]`: sets up, runs the tests, and ends
 * with one line, `N passed, N failed, N skipped`. `deno task test:cluster` does the
 * same with the tests that need a Kubernetes.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { systemPath, watchForStop } from "./process/mod.ts";
import { type Profile, root, setUp } from "./setup/mod.ts";
import { createPhases, endWithError, UserError } from "./terminal/mod.ts";
import { type Report, summarize, summaryLine } from "./test_summary.ts";

/** One of its own for each run: two may be under way in one checkout. */
const reportFile = join(root, `.cache/test-report-${process.pid}.json`);

interface Suite {
  readonly profile: Profile;
  readonly vitestArgs: readonly string[];
}

const suites: Readonly<Record<string, Suite>> = {
  usual: { profile: "test", vitestArgs: [] },
  cluster: {
    // Pods need root; without it the API server alone is tested.
    profile: process.getuid?.() === 0 ? "cluster-node" : "cluster",
    vitestArgs: ["--config", "test/cluster/vitest.config.ts"],
  },
};

try {
  const [first, ...others] = process.argv.slice(2);
  if (first === "--cluster") await test(suites.cluster, others);
  else await test(suites.usual, process.argv.slice(2));
} catch (error) {
  endWithError(error);
}

async function test(
  { profile, vitestArgs }: Suite,
  args: readonly string[],
): Promise<void> {
  using stop = watchForStop();
  const stopped = stop.first.then((reason) => {
    console.error(`Stopping: ${reason}`);
    return "stopped" as const;
  });
  const phases = createPhases();
  if (await Promise.race([setUp(profile, phases), stopped]) === "stopped") {
    process.exit(1);
  }
  process.stderr.write(phases.table("Set up for the tests"));

  mkdirSync(join(root, ".cache"), { recursive: true });
  const exitCode = await runVitest([...vitestArgs, ...args], stopped);
  if (!existsSync(reportFile)) {
    throw new UserError(
      `Cannot count the tests: vitest ended with ${exitCode} and wrote no report`,
    );
  }
  const report = JSON.parse(readFileSync(reportFile, "utf8")) as Report;
  rmSync(reportFile);
  const summary = summarize(report);
  for (const fault of summary.faults) console.error(fault);
  const { passed, failed } = summary;
  if (exitCode !== 0 && failed === 0) {
    console.error(
      `vitest ended with ${exitCode} though no test failed; see above`,
    );
  }
  if (passed + failed === 0) console.error("No test ran.");
  console.log(summaryLine(summary));
  process.exitCode = exitCode === 0 && failed === 0 && passed > 0 ? 0 : 1;
}

async function runVitest(
  args: readonly string[],
  stop: Promise<unknown>,
): Promise<number> {
  const child = spawn(process.execPath, [
    "run",
    "-A",
    // Without it Deno asks the registry about packages that are there.
    "--cached-only",
    join(root, "node_modules/vitest/vitest.mjs"),
    "run",
    "--reporter=default",
    "--reporter=json",
    `--outputFile.json=${reportFile}`,
    ...args,
  ], {
    cwd: root,
    env: { ...process.env, PATH: systemPath() },
    stdio: ["ignore", "inherit", "inherit"],
  });
  stop.then(() => child.kill("SIGTERM"));
  const [code] = await once(child, "exit") as [number | null];
  return code ?? 1;
}

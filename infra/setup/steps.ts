import { existsSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { runProgram, type RunResult } from "../process/mod.ts";
import { UserError } from "../terminal/mod.ts";
import { npmMissing, parityFolder, parityHash } from "./facts.ts";
import type { StepName } from "./plan.ts";
import { writeStamp } from "./stamp.ts";

export interface StepContext {
  readonly root: string;
  readonly debianPackages: readonly string[];
  /** Where Debian's packages ask whether they may start their server. */
  readonly policyFile: string;
  /** Shows what the step is at. */
  detail(text: string): void;
}

export interface SetupStep {
  readonly title: string;
  /** Answers with a note for the table of phases. */
  run(context: StepContext): Promise<string | void>;
}

export const steps: Readonly<Record<StepName, SetupStep>> = {
  npm: { title: "npm packages", run: installNpmPackages },
  debian: { title: "Debian packages", run: installDebianPackages },
  addon: { title: "native addon", run: buildAddon },
  gpu: { title: "emulated GPU", run: buildEmulatedGpu },
  parity: { title: "llama.cpp for parity tests", run: installParity },
};

async function installNpmPackages({ root, detail }: StepContext) {
  const action = "install the npm packages";
  const run = await runProgram(process.execPath, ["install"], {
    cwd: root,
    onLine: detail,
  });
  const missing = npmMissing(root);
  if (run.exitCode === 0 && missing.length === 0) return;
  throw failure(action, `missing: ${missing.join(", ") || "none"}`, run, [
    "Is the npm registry reachable from here? (npm ping)",
  ]);
}

async function installDebianPackages(
  { debianPackages, policyFile, detail }: StepContext,
) {
  const env = { DEBIAN_FRONTEND: "noninteractive", LC_ALL: "C" };
  const apt = (...args: string[]) =>
    runProgram("apt-get", ["-o", "DPkg::Lock::Timeout=120", ...args], {
      env,
      onLine: detail,
    });
  // One unreachable source among many need not matter: install decides.
  const update = await apt("update", "-q");
  // 101 means no: the server is ours to start, on a port and with data of its own.
  const ownPolicy = !existsSync(policyFile);
  if (ownPolicy) {
    writeFileSync(policyFile, "#!/bin/sh\nexit 101\n", { mode: 0o755 });
  }
  try {
    const install = await apt(
      "install",
      "-y",
      "-q",
      "--no-install-recommends",
      ...debianPackages,
    );
    if (install.exitCode !== 0) {
      throw failure(
        `install ${debianPackages.join(" and ")}`,
        `apt-get update ended with ${update.exitCode}, install with ${install.exitCode}`,
        install,
        [`Try by hand: apt-get install -y ${debianPackages.join(" ")}`],
      );
    }
  } finally {
    if (ownPolicy) rmSync(policyFile, { force: true });
  }
  return debianPackages.join(", ");
}

async function buildAddon({ detail }: StepContext) {
  // Loaded late: the builder compiles against files of an npm package.
  const { buildKernels } = await import("../../kernels/build.ts");
  const { built } = await buildKernels({
    onProgress: (done, total, what) => detail(`${done} of ${total}: ${what}`),
  });
  return built ? "compiled" : "up to date";
}

async function buildEmulatedGpu({ detail }: StepContext) {
  const { buildEmulation } = await import("../../kernels/cuda/build.ts");
  await buildEmulation((done, total, what) =>
    detail(`${done} of ${total}: ${what}`)
  );
}

async function installParity({ root, detail }: StepContext) {
  const run = await runProgram("npm", [
    "ci",
    "--omit=optional",
    "--ignore-scripts",
    "--no-audit",
    "--no-fund",
  ], { cwd: join(root, parityFolder), onLine: detail });
  if (run.exitCode !== 0) {
    throw failure(
      `install the packages of ${parityFolder}`,
      `npm ci ended with ${run.exitCode}`,
      run,
      ["Is the npm registry reachable from here? (npm ping)"],
    );
  }
  writeStamp(root, "parity", parityHash(root));
}

function failure(
  action: string,
  found: string,
  run: RunResult,
  hints: readonly string[],
): UserError {
  return new UserError(`Cannot ${action}: ${found}`, {
    hints: [...run.tail.map((line) => `| ${line}`), ...hints],
  });
}

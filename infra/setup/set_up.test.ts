import { equal, match, ok } from "node:assert/strict";
import { spawnSync } from "node:child_process";
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readFileSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { test } from "vitest";
import { tempDir } from "../../lib/testing/mod.ts";
import { npmMissing, parityHash, readFacts } from "./facts.ts";
import { steps } from "./steps.ts";
import { writeStamp } from "./stamp.ts";

async function checkout() {
  const dir = await tempDir("checkout");
  const write = (path: string, text: string) => {
    const file = join(dir.path, path);
    mkdirSync(join(file, ".."), { recursive: true });
    writeFileSync(file, text);
    return file;
  };
  write("package.json", '{"dependencies":{"hono":"4.1.0","zod":"1.0.0"}}');
  return {
    path: dir.path,
    write,
    [Symbol.asyncDispose]: () => dir[Symbol.asyncDispose](),
  };
}

test("npmMissing() names packages that are absent or of another version", async () => {
  await using it = await checkout();
  it.write("node_modules/hono/package.json", '{"version":"4.0.9"}');
  equal(npmMissing(it.path).join(), "hono,zod");
  it.write("node_modules/hono/package.json", '{"version":"4.1.0"}');
  it.write("node_modules/zod/package.json", '{"version":"1.0.0"}');
  equal(npmMissing(it.path).join(), "");
});

test("the parity packages are due again when their lock file changes", async () => {
  await using it = await checkout();
  equal(readFacts(it.path).parityCurrent, true, "no parity tests, nothing due");
  it.write("test/parity/package-lock.json", '{"lockfileVersion":3}');
  equal(readFacts(it.path).parityCurrent, false);
  mkdirSync(join(it.path, "test/parity/node_modules"));
  writeStamp(it.path, "parity", parityHash(it.path));
  equal(readFacts(it.path).parityCurrent, true);
  it.write("test/parity/package-lock.json", '{"lockfileVersion":4}');
  equal(readFacts(it.path).parityCurrent, false);
});

test("looking at a complete checkout is quick", () => {
  const root = new URL("../..", import.meta.url).pathname;
  // The best of five: other programs take their share of this machine too.
  const times = Array.from({ length: 5 }, () => {
    const startMs = performance.now();
    readFacts(root);
    return performance.now() - startMs;
  });
  ok(Math.min(...times) < 300, `${times} ms`);
});

test("apt-get updates, then installs the packages alone, without questions", async () => {
  await using it = await checkout();
  const calls = join(it.path, "calls");
  const apt = it.write(
    "bin/apt-get",
    `#!/bin/sh
echo "$DEBIAN_FRONTEND $*" >> ${calls}
case "$*" in *install*) sh ${
      join(it.path, "policy-rc.d")
    } || echo "start: $?" >> ${calls};; esac
`,
  );
  chmodSync(apt, 0o755);
  await withPath(join(it.path, "bin"), () =>
    steps.debian.run({
      root: it.path,
      debianPackages: ["g++", "nats-server"],
      policyFile: join(it.path, "policy-rc.d"),
      detail: () => {},
    }));
  equal(
    readFileSync(calls, "utf8"),
    "noninteractive -o DPkg::Lock::Timeout=120 update -q\n" +
      "noninteractive -o DPkg::Lock::Timeout=120 install -y -q --no-install-recommends g++ nats-server\n" +
      "start: 101\n",
  );
  equal(existsSync(join(it.path, "policy-rc.d")), false);
});

test("a failed install shows its last lines and what to try", async () => {
  await using it = await checkout();
  const policyFile = join(it.path, "policy-rc.d");
  const apt = it.write(
    "bin/apt-get",
    "#!/bin/sh\necho no space left\nexit 100\n",
  );
  chmodSync(apt, 0o755);
  const error = await withPath(join(it.path, "bin"), () =>
    steps.debian.run({
      root: it.path,
      debianPackages: ["g++"],
      policyFile,
      detail: () => {},
    })).then(() => undefined, (error) => error);
  match(error.message, /Cannot install g\+\+: .*install with 100/);
  ok(error.hints.includes("| no space left"));
  ok(error.hints.includes("Try by hand: apt-get install -y g++"));
  equal(existsSync(policyFile), false);
});

test("the set-up loads before any npm package is there", async () => {
  await using it = await checkout();
  const root = new URL("../..", import.meta.url).pathname;
  for (const part of ["setup", "terminal", "process"]) {
    mkdirSync(join(it.path, "infra"), { recursive: true });
    symlinkSync(join(root, "infra", part), join(it.path, "infra", part));
  }
  const program = `await import("${join(it.path, "infra/setup/mod.ts")}");`;
  const run = spawnSync(process.execPath, [
    "eval",
    "--no-config",
    "--no-lock",
    "--node-modules-dir=none",
    program,
  ], { cwd: it.path, encoding: "utf8" });
  equal(run.status, 0, run.stderr);
});

/** Our steps look programs up in the PATH of this process. */
async function withPath<T>(folder: string, work: () => Promise<T>): Promise<T> {
  const before = process.env.PATH;
  process.env.PATH = `${folder}:${before}`;
  try {
    return await work();
  } finally {
    process.env.PATH = before;
  }
}

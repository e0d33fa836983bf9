/**
 * Regenerates `proto/gen` from `proto/**\/*.proto`: TypeScript by ts-proto, and
 * the descriptor set that gRPC reflection serves. The result is committed, so
 * that nobody needs the compiler to run or test Quetzal.
 *
 * `--check` generates nothing and fails when the committed files are stale.
 */
import { execFileSync } from "node:child_process";
import {
  cpSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const bufVersion = "1.74.0";
const root = new URL("..", import.meta.url).pathname;
const genFolder = join(root, "proto/gen");

function buf(args: string[]): void {
  execFileSync("npx", ["-y", `@bufbuild/buf@${bufVersion}`, ...args], {
    cwd: join(root, "proto"),
    stdio: ["ignore", "inherit", "inherit"],
  });
}

function generate(folder: string): void {
  buf(["lint"]);
  buf(["generate", "--output", folder]);
  buf(["build", "-o", join(folder, "gen/descriptors.binpb")]);
}

function files(folder: string): Map<string, string> {
  const names = readdirSync(folder, { recursive: true, withFileTypes: true });
  return new Map(
    names.filter((entry) => entry.isFile()).map((entry) => {
      const path = join(entry.parentPath, entry.name);
      return [path.slice(folder.length), readFileSync(path, "base64")];
    }),
  );
}

const scratch = mkdtempSync(join(tmpdir(), "quetzal-proto-"));
try {
  generate(scratch);
  const fresh = files(join(scratch, "gen"));
  const stored = files(genFolder);
  const stale = [...new Set([...fresh.keys(), ...stored.keys()])]
    .filter((name) => fresh.get(name) !== stored.get(name));
  if (process.argv.includes("--check")) {
    for (const name of stale) console.error(`stale: proto/gen${name}`);
    if (stale.length > 0) {
      console.error("Run `deno task proto` and commit the result.");
      process.exitCode = 1;
    }
  } else {
    rmSync(genFolder, { recursive: true, force: true });
    cpSync(join(scratch, "gen"), genFolder, { recursive: true });
    console.log(`proto/gen: ${fresh.size} files, ${stale.length} changed`);
  }
} finally {
  rmSync(scratch, { recursive: true, force: true });
}

/**
 * `deno task crds`: writes k8s/crds/*.yaml and docs/operations/crds.md from the
 * tables in this folder. `--check` writes nothing and fails when they are stale.
 */
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { parseArgs } from "node:util";
import { generatedFiles } from "./generated_files.ts";

const usage = `Usage: deno task crds [--check] [--json] [--help]

Writes k8s/crds/*.yaml, docs/operations/crds.md and k8s/crds/kustomization.yaml
from the tables in services/autoscaler/crds.

  --check   write nothing; end with 1 when a file is stale
  --json    print one JSON object: files and those that are stale
  --help    this text`;

const root = new URL("../../../", import.meta.url).pathname;

function isStale(name: string, content: string): boolean {
  try {
    return readFileSync(join(root, name), "utf8") !== content;
  } catch {
    // Not there yet: as stale as can be.
    return true;
  }
}

function main(args: string[]): number {
  const { values } = parseArgs({
    args,
    options: {
      check: { type: "boolean", default: false },
      json: { type: "boolean", default: false },
      help: { type: "boolean", default: false },
    },
  });
  if (values.help) {
    console.log(usage);
    return 0;
  }
  const files = generatedFiles();
  const stale = [...files].filter(([name, content]) => isStale(name, content))
    .map(([name]) => name);
  if (!values.check) {
    for (const name of stale) {
      mkdirSync(dirname(join(root, name)), { recursive: true });
      writeFileSync(join(root, name), files.get(name)!);
    }
  }
  if (values.json) {
    console.log(JSON.stringify({ files: [...files.keys()], stale }));
  } else {
    const verb = values.check ? "stale" : "written";
    for (const name of stale) console.log(`${verb}: ${name}`);
    console.log(`${files.size} files, ${stale.length} ${verb}`);
  }
  return values.check && stale.length > 0 ? 1 : 0;
}

try {
  process.exitCode = main(process.argv.slice(2));
} catch (error) {
  console.error(`Cannot generate the CRDs: ${(error as Error).message}`);
  process.exitCode = 2;
}

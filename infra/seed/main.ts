/**
 * Creates the Kubernetes objects of a folder, once: `seed FOLDER`.
 *
 * `kubectl apply` looks up all kinds before it creates anything, so a Model cannot
 * come in the run that brings its CRD. This runs as a Job beside, waits for the
 * kinds, and leaves alone what is there already.
 */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { createApi } from "./api.ts";
import { createOnce } from "./create_once.ts";
import { readSeedObject } from "./seed_object.ts";

const folder = process.argv[2];
if (folder === undefined) {
  console.error(
    "Cannot seed: needs a folder with YAML files, found no argument",
  );
  process.exit(2);
}

const api = createApi(process.env);
const files = readdirSync(folder).filter((name) => name.endsWith(".yaml"));
for (const name of files.sort()) {
  const text = readFileSync(join(folder, name), "utf8");
  const object = readSeedObject(name, text);
  const outcome = await createOnce(object, { api, wait: () => delay(500) });
  console.log(`${name}: ${outcome}`);
}

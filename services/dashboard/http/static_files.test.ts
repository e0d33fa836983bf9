import { equal, match } from "node:assert/strict";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "vitest";
import { gunzipSync } from "node:zlib";
import { tempDir } from "../../../lib/testing/mod.ts";
import { StaticFiles } from "./static_files.ts";

const script = "console.log('a page');\n".repeat(100);

async function pages() {
  const dir = await tempDir("pages");
  mkdirSync(join(dir.path, "assets"));
  writeFileSync(join(dir.path, "index.html"), "<!doctype html><p>page");
  writeFileSync(join(dir.path, "build.json"), "{}");
  writeFileSync(join(dir.path, "assets/main-AB12CD34.js"), script);
  writeFileSync(join(dir.path, "../outside.txt"), "outside");
  const files = new StaticFiles(dir.path);
  const get = (path: string, headers: Record<string, string> = {}) =>
    files.answer(path, (name) => headers[name]);
  return { get, [Symbol.asyncDispose]: () => dir[Symbol.asyncDispose]() };
}

test("every path that is no file answers the page, which is never cached", async () => {
  await using files = await pages();
  for (const path of ["/", "/requests", "/traces/abc"]) {
    const response = files.get(path);
    match(await response.text(), /<p>page/);
    equal(response.headers.get("cache-control"), "no-cache");
  }
  for (const path of ["/x.js", "/build.json", "/../outside.txt", "/assets/"]) {
    const body = await files.get(path).text();
    equal(/outside|\{\}/.test(body), false, path);
  }
});

test("a file with its hash in the name is cached for ever, and compressed", async () => {
  await using files = await pages();
  const path = "/assets/main-AB12CD34.js";
  const zipped = files.get(path, { "accept-encoding": "gzip, deflate" });
  equal(zipped.headers.get("content-encoding"), "gzip");
  match(zipped.headers.get("cache-control")!, /immutable/);
  equal(gunzipSync(await zipped.arrayBuffer()).toString(), script);
  const brotli = files.get(path, { "accept-encoding": "gzip, br" });
  equal(brotli.headers.get("content-encoding"), "br");
  const plain = files.get(path, { "accept-encoding": "br;q=0" });
  equal(plain.headers.get("content-encoding"), null);
  equal(await plain.text(), script);
  const etag = plain.headers.get("etag")!;
  equal(files.get(path, { "if-none-match": etag }).status, 304);
});

test("pages that are not built say what to do", async () => {
  const files = new StaticFiles("/nonexistent");
  const response = files.answer("/requests", () => undefined);
  equal(response.status, 503);
  match(await response.text(), /web\/build\.ts/);
  equal(files.answer("/x.js", () => undefined).status, 404);
});

import { ok } from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { test } from "vitest";

const bun = new URL(
  "../../node_modules/@oven/bun-linux-x64/bin/bun",
  import.meta.url,
).pathname;

// Deno's HTTP/2 client reads on while its stream is paused (5,000 messages in
// 300 ms), so this promise holds on Bun, which runs the request path.
test("a client that does not read holds the server back", () => {
  const script = new URL("testing/flood.ts", import.meta.url).pathname;
  const written = Number(execFileSync(bun, [script], { timeout: 20_000 }));
  ok(written > 0 && written < 1_000, `${written} messages were written`);
});

/**
 * Takes one cold start apart, in milliseconds; every run is a process of its own:
 *
 *   bun test/load/cold_start_probe.ts MODEL $(date +%s%3N) [FOLDER]
 *
 * With FOLDER packed weights are kept there. The first run with it lives on for ten
 * seconds, so that the file can be written.
 */
const firstLineAtMs = Date.now();

import process from "node:process";
import { setTimeout as delay } from "node:timers/promises";

const [path, startedAtMs, folder] = process.argv.slice(2);
const ms: Record<string, number> = {
  start: firstLineAtMs - Number(startedAtMs),
};
let lapMs = performance.now();
function lap(part: string): void {
  const nowMs = performance.now();
  ms[part] = Math.round(nowMs - lapMs);
  lapMs = nowMs;
}

const { createEngine, openModel } = await import("../../lib/engine/mod.ts");
const { readGguf } = await import("../../lib/gguf/mod.ts");
const { run } = await import("../../lib/engine/testing/sequences.ts");
const { loadNative } = await import("../../kernels/addon/mod.ts");
lap("imports");
const native = loadNative();
lap("addon");
const gguf = readGguf(path);
lap("header");
const file = openModel(gguf);
lap("fingerprint");
let wasMapped = false;
await using engine = await createEngine({
  file,
  native: {
    ...native,
    async loadModel(spec) {
      const model = await native.loadModel(spec);
      wasMapped = model.isMapped ?? false;
      return model;
    },
  },
  threads: 2,
  kvBlocks: 64,
  packedCache: folder ? { folder, bytesMax: 2 ** 40 } : undefined,
  onWarning: (message, cause) => console.error(message, cause),
});
lap("load");
const prompt = Int32Array.from({ length: 8 }, (_, i) => 300 + 7 * i);
await run(engine, { prompt, maxTokens: 1 });
lap("prefill");
console.log(JSON.stringify({ ...ms, total: Date.now() - Number(startedAtMs) }));
if (folder && !wasMapped) await delay(10_000);

/**
 * The demo model through the engine on the GPU, and on the CPU: same ids, how fast.
 *
 * Runs on Bun alone, without a node_modules of its own: on a machine without network.
 * Flags: --library and --fatbin as of the check, --quick, --json, --help.
 */
import { existsSync } from "node:fs";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { buildKernels } from "../../kernels/build.ts";
import { loadNative } from "../../kernels/addon/mod.ts";
import { createEngine, type Engine } from "../../lib/engine/mod.ts";
import { greedy } from "../../lib/engine/testing/sequences.ts";

interface Run {
  model: string;
  backend: "cpu" | "cuda";
  sequences: number;
  tokens: number;
  tokensPerS: number;
}

const { values: flags } = parseArgs({
  options: {
    library: { type: "string", default: "libcuda.so.1" },
    fatbin: { type: "string" },
    quick: { type: "boolean", default: false },
    json: { type: "boolean", default: false },
    help: { type: "boolean", default: false },
  },
});
if (flags.help) {
  console.log(
    "The demo model on GPU and CPU: --library PATH --fatbin PATH --quick --json",
  );
  process.exit(0);
}
process.env.QUETZAL_LIBCUDA = flags.library;
if (flags.fatbin) process.env.QUETZAL_CUDA_KERNELS = flags.fatbin;

const maxTokens = flags.quick ? 6 : 32;
async function decode(engine: Engine, sequence: number): Promise<number[]> {
  const ids: number[] = [];
  const events = engine.generate({
    requestId: `demo-${sequence}`,
    promptIds: Int32Array.from(
      { length: 24 },
      (_, i) => 300 + 7 * i + 31 * sequence,
    ),
    emittedIds: new Int32Array(),
    maxTokens,
    sampling: greedy,
  }, { signal: new AbortController().signal });
  for await (const event of events) {
    if (event.kind === "tokens") ids.push(...event.tokens.map(({ id }) => id));
  }
  return ids;
}

await buildKernels();
const native = loadNative();
const runs: Run[] = [];
let differing = 0, compared = 0;
for (const name of ["demo-q8_0", "demo-f16"]) {
  const path = fileURLToPath(
    new URL(`../../models/quetzal-${name}.gguf`, import.meta.url),
  );
  if (!existsSync(path)) {
    console.error(`Skipping quetzal-${name}: needs ${path}, found nothing`);
    continue;
  }
  for (const sequences of [1, 8]) {
    const ids: Record<string, string> = {};
    for (const backend of ["cpu", "cuda"] as const) {
      await using engine = await createEngine({
        path,
        native,
        backend,
        kvBlocks: 256,
        rowsMax: 64,
        runningMax: 16,
      });
      // Graphs are captured the first time.
      await decode(engine, 0);
      const begin = performance.now();
      const all = await Promise.all(
        Array.from({ length: sequences }, (_, i) => decode(engine, i)),
      );
      const ms = performance.now() - begin;
      const tokens = all.reduce((sum, each) => sum + each.length, 0);
      ids[backend] = JSON.stringify(all);
      runs.push({
        model: name,
        backend,
        sequences,
        tokens,
        tokensPerS: tokens / ms * 1000,
      });
    }
    compared++;
    if (ids.cpu !== ids.cuda) differing++;
  }
}
if (flags.json) console.log(JSON.stringify({ runs, compared, differing }));
else {
  console.table(runs);
  console.log(
    compared === 0
      ? "No demo model is here: nothing was compared"
      : differing === 0
      ? "CPU and GPU chose the same tokens"
      : `CPU and GPU chose other tokens in ${differing} of ${compared} runs`,
  );
}

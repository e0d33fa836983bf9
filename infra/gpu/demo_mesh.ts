/**
 * The demo pair through a whole mesh, its workers on the GPU and then on the CPU: the same
 * ids over gRPC, how fast.
 *
 * From the sources where the npm packages are; else as a bundle that `run.sh --pack` made,
 * which starts the services' bundles that lie beside it.
 */
import { existsSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { startMesh } from "../../test/mesh/start_mesh.ts";
import { streamIds } from "../../test/mesh/stream_ids.ts";
import { demoPair, onCuda } from "./demo_pair.ts";

interface Run {
  backend: "cpu" | "cuda";
  model: string;
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
if (flags.help || flags.fatbin === undefined) {
  console.log(
    "The demo pair through a mesh: --fatbin PATH --library PATH --quick --json",
  );
  process.exit(flags.help ? 0 : 2);
}

const here = dirname(fileURLToPath(import.meta.url));
const isBundle = basename(here) === "gpu-mesh";
const ownNats = join(here, "nats-server");
const questions = [
  "What is the KV cache?",
  "Name five fruits.",
  "Tell me a story about a fox named Pip. ".repeat(8),
];
const models = ["quetzal-demo", "quetzal-draft"];
const maxTokens = flags.quick ? 4 : 24;

const runs: Run[] = [];
const ids: Record<string, string[]> = {};
const { library, fatbin } = flags;
for (
  const [backend, env] of [
    ["cpu", { QUETZAL_BACKEND: "cpu" }],
    ["cuda", onCuda({ library, fatbin })],
  ] as const
) {
  await using mesh = await startMesh({
    models: demoPair(),
    env,
    ...(isBundle && { mainOf: (role: string) => join(here, `${role}.js`) }),
    ...(existsSync(ownNats) && { natsCommand: ownNats }),
  });
  ids[backend] = [];
  for (const model of models) {
    // Graphs are captured the first time.
    const ask = (content: string) =>
      streamIds(mesh.grpcAddress, { model, content, maxTokens });
    await ask(questions[0]);
    const begin = performance.now();
    const all = await Promise.all(questions.map(ask));
    const ms = performance.now() - begin;
    ids[backend].push(...all.map((each) => JSON.stringify(each)));
    const tokens = all.reduce((sum, each) => sum + each.length, 0);
    runs.push({
      backend,
      model,
      sequences: all.length,
      tokens,
      tokensPerS: tokens / ms * 1000,
    });
  }
}
const compared = ids.cpu.length;
const differing = ids.cpu.filter((each, i) => each !== ids.cuda[i]).length;
if (flags.json) console.log(JSON.stringify({ runs, compared, differing }));
else {
  console.table(runs);
  console.log(`Answers that differ: ${differing} of ${compared}`);
}

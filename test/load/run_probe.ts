import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { bunEnv } from "../../infra/local/runtime.ts";

const root = new URL("../..", import.meta.url).pathname;
export const demoPath = `${root}models/quetzal-demo-q8_0.gguf`;
const bun = `${root}node_modules/@oven/bun-linux-x64/bin/bun`;

/** Samples by side: "engine" or the name of a mesh. */
export interface ProbeResult {
  /** Milliseconds, for short and long prompts. */
  readonly ttft: Record<"short" | "long", Record<string, number[]>>;
  /** Milliseconds per token. */
  readonly token: Record<string, number[]>;
  /** Tokens per second with 64 streams. */
  readonly throughput: Record<string, number[]>;
}

export async function runProbe(
  meshes: Readonly<Record<string, string>>,
  options: {
    rounds: number;
    pairs: number;
    threads: number;
    /** Meshes that are only asked one stream at a time. */
    idle?: readonly string[];
  },
): Promise<ProbeResult> {
  const args = [
    `${root}test/load/mesh_probe.ts`,
    ...["--model", demoPath],
    ...["--threads", `${options.threads}`],
    ...["--rounds", `${options.rounds}`],
    ...["--pairs", `${options.pairs}`],
    ...Object.entries(meshes).flatMap((
      [name, address],
    ) => ["--mesh", `${name}=${address}`]),
    ...(options.idle ?? []).flatMap((name) => ["--idle", name]),
  ];
  const { stdout } = await promisify(execFile)(bun, args, {
    maxBuffer: 64 << 20,
    // The engine in the probe runs as the one in the mesh does.
    env: { ...process.env, ...bunEnv },
  });
  return JSON.parse(stdout);
}

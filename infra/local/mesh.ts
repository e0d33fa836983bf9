/** The processes of a mesh on one machine, as the supervisor wants them. */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { findProgram } from "../process/mod.ts";
import { UserError } from "../terminal/mod.ts";
import { freePort } from "./ports.ts";
import { grpcServes, httpAnswers, natsAnswers } from "./probes.ts";
import type { Runtime } from "./runtime.ts";
import type { ProcessSpec } from "./supervisor.ts";
import type { UpConfig } from "./up_flags.ts";

export interface MeshPlace {
  /** The checkout. */
  readonly root: string;
  readonly runtime: Runtime;
  readonly natsPort: number;
}

export interface MeshSpecs {
  /** First, and ready before the others are started. */
  readonly nats: ProcessSpec;
  /** In the order of starting: who is asked comes before who asks. */
  readonly services: readonly ProcessSpec[];
}

export function meshSpecs(config: UpConfig, place: MeshPlace): MeshSpecs {
  const workers = (role: "prefill" | "decode", count: number) =>
    Array.from(
      { length: count },
      (_, index) => workerSpec(role, `${role}-${index + 1}`, config, place),
    );
  return {
    nats: natsSpec(config, place),
    services: [
      ...workers("prefill", config.prefillCount),
      ...workers("decode", config.decodeCount),
      routerSpec(config, place),
    ],
  };
}

function natsSpec(
  { dataFolder }: UpConfig,
  { natsPort }: MeshPlace,
): ProcessSpec {
  return {
    name: "nats",
    launch() {
      const program = findProgram("nats-server");
      if (!program) {
        throw new UserError(
          "Cannot start NATS: needs nats-server, found none in PATH",
        );
      }
      return Promise.resolve({
        command: {
          program,
          args: ["-c", writeNatsConfig(dataFolder, natsPort)],
        },
        isReady: () => natsAnswers(natsPort),
      });
    },
  };
}

function writeNatsConfig(dataFolder: string, port: number): string {
  const folder = join(dataFolder, "nats");
  mkdirSync(folder, { recursive: true });
  const file = join(folder, "nats.conf");
  const store = JSON.stringify(join(folder, "store"));
  writeFileSync(
    file,
    `# Written by each start of \`deno task up\`.
server_name: quetzal-local
listen: "127.0.0.1:${port}"
jetstream { store_dir: ${store}, max_memory_store: 64MB, max_file_store: 1GB }
`,
  );
  return file;
}

function workerSpec(
  role: "prefill" | "decode",
  name: string,
  config: UpConfig,
  place: MeshPlace,
): ProcessSpec {
  return {
    name,
    async launch() {
      const port = await freePort();
      const key = role === "prefill"
        ? "QUETZAL_PREFILL_PORT"
        : "QUETZAL_DECODE_PORT";
      return {
        command: serviceCommand(role, place, {
          ...serviceEnv(config, place),
          [key]: `${port}`,
          QUETZAL_WORKER_ID: name,
        }),
        isReady: () => grpcServes(port),
      };
    },
  };
}

function routerSpec(config: UpConfig, place: MeshPlace): ProcessSpec {
  const { httpPort, grpcPort } = config;
  return {
    name: "router",
    launch: () =>
      Promise.resolve({
        command: serviceCommand("router", place, {
          ...serviceEnv(config, place),
          QUETZAL_HTTP_PORT: `${httpPort}`,
          QUETZAL_GRPC_PORT: `${grpcPort}`,
        }),
        isReady: async () =>
          await httpAnswers(`http://127.0.0.1:${httpPort}/health`) &&
          await grpcServes(grpcPort),
      }),
  };
}

function serviceCommand(
  service: string,
  { root, runtime: { program, args } }: MeshPlace,
  env: Readonly<Record<string, string>>,
) {
  const main = join(root, "services", service, "main.ts");
  return { program, args: [...args, main], env };
}

/** Below the supervisor's patience of 5 s. */
const drain = "3s";

function serviceEnv(
  { models, threads }: UpConfig,
  { natsPort }: MeshPlace,
): Record<string, string> {
  return {
    QUETZAL_MODELS: models.map(({ name, path }) => `${name}=${path}`).join(","),
    QUETZAL_NATS_URL: `nats://127.0.0.1:${natsPort}`,
    ...(threads === undefined ? {} : { QUETZAL_THREADS: `${threads}` }),
    // Who presses Ctrl-C does not want to wait the half minute of a cluster.
    QUETZAL_ROUTER_DRAIN: process.env.QUETZAL_ROUTER_DRAIN || drain,
    QUETZAL_DRAIN_TIMEOUT: process.env.QUETZAL_DRAIN_TIMEOUT || drain,
  };
}

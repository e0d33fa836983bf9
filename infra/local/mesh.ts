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
  /** Absent: no dashboard. */
  readonly dashboardPort: number | undefined;
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
      ...(place.dashboardPort === undefined
        ? []
        : [dashboardSpec(place.dashboardPort, config, place)]),
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

function dashboardSpec(
  port: number,
  config: UpConfig,
  place: MeshPlace,
): ProcessSpec {
  return {
    name: "dashboard",
    launch: () =>
      Promise.resolve({
        command: serviceCommand("dashboard", place, {
          ...serviceEnv(config, place),
          QUETZAL_DASHBOARD_PORT: `${port}`,
          QUETZAL_DASHBOARD_DATA: join(config.dataFolder, "dashboard"),
          QUETZAL_DASHBOARD_NICE: "10",
          QUETZAL_DASHBOARD_ROUTER_URL: `http://127.0.0.1:${config.httpPort}`,
        }),
        isReady: () => httpAnswers(`http://127.0.0.1:${port}/health`),
      }),
  };
}

/** Spans go to the dashboard, unless the user has a collector. */
function telemetryEnv(
  { dashboardPort }: MeshPlace,
): Record<string, string> {
  const { QUETZAL_CAPTURE_CONTENT, OTEL_EXPORTER_OTLP_ENDPOINT } = process.env;
  if (dashboardPort === undefined || OTEL_EXPORTER_OTLP_ENDPOINT) return {};
  return {
    OTEL_EXPORTER_OTLP_ENDPOINT: `http://127.0.0.1:${dashboardPort}`,
    // Who runs a mesh on the own machine wants to see what was said.
    QUETZAL_CAPTURE_CONTENT: QUETZAL_CAPTURE_CONTENT || "true",
  };
}

function serviceCommand(
  service: string,
  { root, runtime }: MeshPlace,
  env: Readonly<Record<string, string>>,
) {
  const main = join(root, "services", service, "main.ts");
  return {
    program: runtime.program,
    args: [...runtime.args, main],
    env: { ...runtime.env, ...env },
  };
}

/** Below the supervisor's patience of 5 s. */
const drain = "3s";

function serviceEnv(
  { models, threads, kvType }: UpConfig,
  place: MeshPlace,
): Record<string, string> {
  return {
    ...telemetryEnv(place),
    QUETZAL_MODELS: models.map(({ name, path }) => `${name}=${path}`).join(","),
    QUETZAL_NATS_URL: `nats://127.0.0.1:${place.natsPort}`,
    ...(threads === undefined ? {} : { QUETZAL_THREADS: `${threads}` }),
    ...(kvType === undefined ? {} : { QUETZAL_KV_TYPE: kvType }),
    // On the same cores a prefill worker computes no faster: it only keeps long prompts
    // out of the steps of running answers (docs/benchmarks/mesh.md).
    QUETZAL_ROUTER_PREFILL_TOKENS_MIN:
      process.env.QUETZAL_ROUTER_PREFILL_TOKENS_MIN || "256",
    // Who presses Ctrl-C does not want to wait the half minute of a cluster.
    QUETZAL_ROUTER_DRAIN: process.env.QUETZAL_ROUTER_DRAIN || drain,
    QUETZAL_DRAIN_TIMEOUT: process.env.QUETZAL_DRAIN_TIMEOUT || drain,
  };
}

import { availableParallelism } from "node:os";
import { parseArgs } from "node:util";
import { type KvType, kvTypes } from "../../lib/engine/native.ts";
import { denoTask, UserError } from "../terminal/mod.ts";
import { dataFolderOf } from "./data_folder.ts";
import { modelFaults, type ModelFile, parseModel } from "./models.ts";

export interface UpConfig {
  readonly models: readonly ModelFile[];
  readonly prefillCount: number;
  readonly decodeCount: number;
  readonly httpPort: number;
  readonly grpcPort: number;
  /** Absent: the usual one, or another when that is taken. */
  readonly natsPort: number | undefined;
  readonly dashboard: DashboardPlace;
  /** Threads of each worker; absent: the engine decides. */
  readonly threads: number | undefined;
  /** How workers store KV; absent: as they do by default. */
  readonly kvType: KvType | undefined;
  /** JetStream store, logs, what is running. */
  readonly dataFolder: string;
  readonly runtime: "bun" | "deno" | undefined;
  readonly json: boolean;
}

/** Where the dashboard is served; "off" when it is not. */
export type DashboardPlace =
  /** This port, or none of the mesh. */
  | { readonly kind: "fixed"; readonly port: number }
  /** This port, or a free one when it is taken. */
  | { readonly kind: "usual"; readonly port: number }
  | { readonly kind: "off" };

export const demoModel = "models/quetzal-demo-q8_0.gguf";

export const upHelp = `Runs the mesh on this machine until Ctrl-C.

  ${denoTask} up [flags]

  --model FILE.gguf   serve this file, named as the file is without its
                      quantization; repeatable; NAME=FILE.gguf names it
                      (${demoModel})
  --prefill N         prefill workers, 0 to 16; with 0 decode workers run the
                      prompts too (1)
  --decode N          decode workers, 1 to 16 (1)
  --http PORT         OpenAI-style HTTP (QUETZAL_HTTP_PORT, 8080)
  --grpc PORT         gRPC (QUETZAL_GRPC_PORT, 50051)
  --nats PORT         the mesh's own NATS (QUETZAL_NATS_PORT, 14222 or a free one)
  --dashboard PORT    the dashboard (QUETZAL_DASHBOARD_PORT, 8090 or a free one);
                      0 or --no-dashboard: none
  --threads N         threads of each worker (QUETZAL_THREADS)
  --kv-type TYPE      how workers store KV, f16 or q8_0 (QUETZAL_KV_TYPE, f16)
  --data FOLDER       logs and the NATS store (QUETZAL_DATA_FOLDER, .quetzal)
  --runtime NAME      bun or deno runs the services (QUETZAL_RUNTIME, bun)
  --json              print what runs as one JSON line on stdout when ready
  --help
`;

type Env = Readonly<Record<string, string | undefined>>;

/** Reads flags and environment; reports all faults at once. */
export function parseUpFlags(
  args: readonly string[],
  { env, root }: { env: Env; root: string },
): UpConfig | "help" {
  const values = readFlags(args);
  if (values.help) return "help";
  const faults: string[] = [];
  // `deno task` runs us in the checkout; paths are meant from where it was typed.
  const folder = env.INIT_CWD || root;

  function integer<F>(
    { flag, key, range: [min, max], fallback }: {
      flag:
        | "prefill"
        | "decode"
        | "http"
        | "grpc"
        | "nats"
        | "dashboard"
        | "threads";
      key?: string;
      range: readonly [min: number, max: number];
      fallback: F;
    },
  ): number | F {
    const fromEnv = key && env[key] ? env[key] : undefined;
    const text = values[flag] ?? fromEnv;
    if (text === undefined) return fallback;
    const value = /^\d+$/.test(text) ? Number(text) : NaN;
    if (value >= min && value <= max) return value;
    const source = values[flag] === undefined ? key : `--${flag}`;
    faults.push(`${source} is "${text}", expected ${min} to ${max}`);
    return fallback;
  }

  const port = [1, 65_535] as const;
  const models = values.model
    ? values.model.map((text) => parseModel(text, folder))
    : [parseModel(demoModel, root)];
  const runtime = values.runtime ?? (env.QUETZAL_RUNTIME || undefined);
  const kvType = values["kv-type"] ?? (env.QUETZAL_KV_TYPE || undefined);
  const config: UpConfig = {
    models,
    prefillCount: integer({ flag: "prefill", range: [0, 16], fallback: 1 }),
    decodeCount: integer({ flag: "decode", range: [1, 16], fallback: 1 }),
    httpPort: integer({
      flag: "http",
      key: "QUETZAL_HTTP_PORT",
      range: port,
      fallback: 8080,
    }),
    grpcPort: integer({
      flag: "grpc",
      key: "QUETZAL_GRPC_PORT",
      range: port,
      fallback: 50_051,
    }),
    natsPort: integer({
      flag: "nats",
      key: "QUETZAL_NATS_PORT",
      range: port,
      fallback: undefined,
    }),
    dashboard: dashboardPlace(
      values["no-dashboard"] ? 0 : integer({
        flag: "dashboard",
        key: "QUETZAL_DASHBOARD_PORT",
        range: [0, 65_535],
        fallback: undefined,
      }),
    ),
    threads: integer({
      flag: "threads",
      key: "QUETZAL_THREADS",
      range: [1, Math.max(256, availableParallelism())],
      fallback: undefined,
    }),
    kvType: kvType as UpConfig["kvType"],
    dataFolder: dataFolderOf({ flag: values.data, env, root }),
    runtime: runtime as UpConfig["runtime"],
    json: values.json ?? false,
  };
  if (runtime !== undefined && runtime !== "bun" && runtime !== "deno") {
    const source = values.runtime ? "--runtime" : "QUETZAL_RUNTIME";
    faults.push(`${source} is "${runtime}", expected bun or deno`);
  }
  if (kvType !== undefined && !kvTypes.some((known) => known === kvType)) {
    const source = values["kv-type"] ? "--kv-type" : "QUETZAL_KV_TYPE";
    faults.push(`${source} is "${kvType}", expected ${kvTypes.join(" or ")}`);
  }
  if (config.httpPort === config.grpcPort) {
    faults.push(`--http and --grpc are both ${config.httpPort}`);
  }
  faults.push(...modelFaults(models));
  if (faults.length > 0) {
    throw new UserError(`Cannot start the mesh: ${faults.join("; ")}`, {
      hints: [`${denoTask} up --help lists the flags`],
      exitCode: 2,
    });
  }
  return config;
}

function dashboardPlace(port: number | undefined): DashboardPlace {
  if (port === undefined) return { kind: "usual", port: 8090 };
  return port === 0 ? { kind: "off" } : { kind: "fixed", port };
}

function readFlags(args: readonly string[]) {
  try {
    return parseArgs({
      args: [...args],
      options: {
        model: { type: "string", multiple: true },
        prefill: { type: "string" },
        decode: { type: "string" },
        http: { type: "string" },
        grpc: { type: "string" },
        nats: { type: "string" },
        dashboard: { type: "string" },
        "no-dashboard": { type: "boolean" },
        threads: { type: "string" },
        "kv-type": { type: "string" },
        data: { type: "string" },
        runtime: { type: "string" },
        json: { type: "boolean" },
        help: { type: "boolean", short: "h" },
      },
    }).values;
  } catch (error) {
    throw new UserError(`Cannot start the mesh: ${(error as Error).message}`, {
      hints: [`${denoTask} up --help lists the flags`],
      exitCode: 2,
      cause: error,
    });
  }
}

/** A whole mesh of real processes for tests and benchmarks. */
import { appendFileSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type Child, startChild } from "../../infra/local/child.ts";
import { bunEnv } from "../../infra/local/runtime.ts";
import { callUnary, connect } from "../../lib/rpc/mod.ts";
import { InferenceClient } from "../../proto/gen/quetzal/v1/inference.ts";
import { freePort, startNats, tempDir } from "../../lib/testing/mod.ts";

const root = new URL("../..", import.meta.url).pathname;
const bun = join(root, "node_modules/@oven/bun-linux-x64/bin/bun");

/** `name=path` of what a mesh serves unless told otherwise. */
export const demoModel = `quetzal-demo=${
  join(root, "models/quetzal-demo-q8_0.gguf")
}`;

export type Runtime = "bun" | "deno";

export interface MeshOptions {
  runtime?: Runtime;
  /** Workers of each role; 1 unless set. */
  prefill?: number;
  decode?: number;
  /** QUETZAL_MODELS; the demo model unless set. */
  models?: string;
  /** What the workers start with, when the router knows more. */
  workerModels?: string;
  /** Starts a dashboard too, and sends it the spans of all; its environment may be added to. */
  dashboard?: boolean | Record<string, string>;
  /** Added to the environment of every process, or of one role. */
  env?: Record<string, string>;
  roleEnv?: Partial<Record<Role, Record<string, string>>>;
  /** The file to run; each service's `main.ts` unless set. */
  mainOf?: (role: Role) => string;
  /** `nats-server` of the PATH unless set. */
  natsCommand?: string;
}

export type Role = "router" | "prefill" | "decode" | "dashboard";

export interface MeshProcess {
  readonly name: string;
  readonly role: Role;
  readonly pid: number;
  /** Sends a signal; tells how the process ended: "exit code 0", "signal SIGKILL". */
  kill(signal: NodeJS.Signals): Promise<string>;
  /** Starts it again, with the same name and environment. */
  start(): void;
  /** What it has printed so far. */
  log(): string;
}

export interface Mesh extends AsyncDisposable {
  readonly httpUrl: string;
  readonly grpcAddress: string;
  /** Absent without a dashboard. */
  readonly dashboardUrl: string | undefined;
  readonly nats: Awaited<ReturnType<typeof startNats>>;
  readonly processes: readonly MeshProcess[];
  process(name: string): MeshProcess;
  /** Resolves when the router sees so many live workers. */
  waitForWorkers(counts: { prefill: number; decode: number }): Promise<void>;
}

/** Starts NATS, one router and the workers; resolves when all of them serve. */
export async function startMesh(options: MeshOptions = {}): Promise<Mesh> {
  const { runtime = "bun", prefill = 1, decode = 1, models = demoModel } =
    options;
  await using undo = new AsyncDisposableStack();
  const folder = undo.use(await tempDir("mesh"));
  const nats = undo.use(await startNats({ command: options.natsCommand }));
  const [httpPort, grpcPort] = [await freePort(), await freePort()];
  const dashboardPort = options.dashboard ? await freePort() : undefined;
  const dashboardUrl = dashboardPort && `http://127.0.0.1:${dashboardPort}`;
  const { workerModels = models } = options;
  const loadedFirst = workerModels.split(",").filter((entry) => entry !== "")
    .map((entry) => entry.split("=")[0]);
  const shared = {
    QUETZAL_MODELS: workerModels,
    QUETZAL_NATS_URL: nats.url,
    QUETZAL_LOG_LEVEL: "info",
    QUETZAL_METRICS_PORT: "0",
    // Tests are about the hand-over, which an idle mesh does without.
    QUETZAL_ROUTER_PREFILL_IDLE_TOKENS_MIN: "0",
    ...(dashboardUrl ? { OTEL_EXPORTER_OTLP_ENDPOINT: dashboardUrl } : {}),
    ...options.env,
  };
  const processes: MeshProcess[] = [];
  undo.defer(() => stopAll(processes));

  const mainOf = options.mainOf ??
    ((role) => join(root, `services/${role}/main.ts`));
  const add = (role: Role, name: string, env: Record<string, string>) => {
    const all = { ...shared, ...env, ...options.roleEnv?.[role] };
    const main = mainOf(role);
    const { path } = folder;
    processes.push(
      startProcess({ role, name, main, runtime, env: all, folder: path }),
    );
  };
  for (let i = 0; i < prefill; i++) {
    add("prefill", `prefill-${i}`, {
      QUETZAL_PREFILL_PORT: "0",
      QUETZAL_WORKER_ID: `prefill-${i}`,
    });
  }
  for (let i = 0; i < decode; i++) {
    add("decode", `decode-${i}`, {
      QUETZAL_DECODE_PORT: "0",
      QUETZAL_WORKER_ID: `decode-${i}`,
    });
  }
  add("router", "router", {
    QUETZAL_MODELS: models,
    QUETZAL_HTTP_PORT: String(httpPort),
    QUETZAL_GRPC_PORT: String(grpcPort),
  });

  if (dashboardPort) {
    add("dashboard", "dashboard", {
      QUETZAL_DASHBOARD_PORT: String(dashboardPort),
      QUETZAL_DASHBOARD_DATA: join(folder.path, "dashboard"),
      QUETZAL_DASHBOARD_ROUTER_URL: `http://127.0.0.1:${httpPort}`,
      ...(typeof options.dashboard === "object" ? options.dashboard : {}),
    });
  }

  const grpcAddress = `127.0.0.1:${grpcPort}`;
  const httpUrl = `http://127.0.0.1:${httpPort}`;
  const mesh: Mesh = {
    httpUrl,
    grpcAddress,
    dashboardUrl: dashboardUrl || undefined,
    nats,
    processes,
    process(name) {
      const found = processes.find((process) => process.name === name);
      if (!found) throw new Error(`No process ${name} in this mesh`);
      return found;
    },
    waitForWorkers: (counts) =>
      waitForWorkers(grpcAddress, { counts, names: loadedFirst, processes }),
    [Symbol.asyncDispose]: async () => await kept.disposeAsync(),
  };
  await mesh.waitForWorkers({ prefill, decode });
  if (dashboardUrl) await waitForDashboard(dashboardUrl, processes);
  const kept = undo.move();
  return mesh;
}

interface ProcessOptions {
  role: Role;
  name: string;
  main: string;
  runtime: Runtime;
  env: Record<string, string>;
  folder: string;
}

function startProcess(
  { role, name, main, runtime, env, folder }: ProcessOptions,
): MeshProcess {
  const [program, args, runtimeEnv] = runtime === "bun"
    ? [bun, [main], bunEnv]
    : [denoPath(), ["run", "-A", "--cached-only", main], {}];
  const logPath = join(folder, `${name}.log`);
  writeFileSync(logPath, "");
  const command = { program, args, env: { ...runtimeEnv, ...env } };
  const takeLine = (line: string) => appendFileSync(logPath, `${line}\n`);
  let child: Child = startChild(command, takeLine);
  return {
    name,
    role,
    get pid() {
      return child.pid;
    },
    start: () => child = startChild(command, takeLine),
    log: () => readFileSync(logPath, "utf8"),
    kill(signal) {
      child.signal(signal);
      return child.ended;
    },
  };
}

/** Tests run under Deno themselves. */
function denoPath(): string {
  if (!process.execPath.includes("deno")) {
    throw new Error(
      `Cannot start Deno: found ${process.execPath} as this runtime`,
    );
  }
  return process.execPath;
}

async function stopAll(processes: readonly MeshProcess[]): Promise<void> {
  await Promise.all(processes.map((process) => process.kill("SIGKILL")));
}

/** The router tells per model how many workers it sees; the named ones count. */
async function waitForWorkers(
  address: string,
  { counts, names, processes }: {
    readonly counts: { prefill: number; decode: number };
    readonly names: readonly string[];
    readonly processes: readonly MeshProcess[];
  },
): Promise<void> {
  const client = connect(InferenceClient, address);
  using _ = { [Symbol.dispose]: () => client.close() };
  const deadline = Date.now() + 60_000;
  let last = "no answer";
  while (Date.now() < deadline) {
    try {
      const { models } = await callUnary(client.listModels.bind(client), {});
      last = models.map((model) =>
        `${model.name}: ${model.prefillWorkers} prefill, ${model.decodeWorkers} decode`
      ).join("; ");
      const ready = names.every((name) =>
        models.some((model) =>
          model.name === name && model.decodeWorkers === counts.decode &&
          model.prefillWorkers === counts.prefill
        )
      );
      if (ready) return;
    } catch (error) {
      // Not listening yet: the next look tells.
      last = String(error);
    }
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  const logs = processes.map((process) =>
    `--- ${process.name}\n${process.log().slice(-2_000)}`
  );
  throw new Error(
    `Cannot start the mesh: needs ${JSON.stringify(counts)}, found ${last}\n${
      logs.join("\n")
    }`,
  );
}

/** It serves, and has heard from the router and all workers. */
async function waitForDashboard(
  url: string,
  processes: readonly MeshProcess[],
): Promise<void> {
  const workers =
    processes.filter(({ role }) => role === "prefill" || role === "decode")
      .length;
  const deadline = Date.now() + 20_000;
  let last = "no answer";
  while (Date.now() < deadline) {
    try {
      const mesh = await (await fetch(`${url}/api/mesh`)).json();
      last = `${mesh.workers.length} workers`;
      if (mesh.workers.length === workers) return;
    } catch (error) {
      // Not listening yet: the next look tells.
      last = String(error);
    }
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  const dashboard = processes.find(({ role }) => role === "dashboard");
  throw new Error(
    `Cannot start the dashboard: needs ${workers} workers, found ${last}\n` +
      dashboard?.log().slice(-2_000),
  );
}

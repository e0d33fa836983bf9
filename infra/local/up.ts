/**
 * `deno task up`: sets up, starts NATS, router and workers, and keeps them
 * running until Ctrl-C. `--help` lists the flags.
 */
import { join, relative } from "node:path";
import { type StopWatch, watchForStop } from "../process/mod.ts";
import { root, setUp } from "../setup/mod.ts";
import {
  createPhases,
  denoTask,
  endWithError,
  type Phases,
  styleOf,
  UserError,
} from "../terminal/mod.ts";
import { firstRequest } from "./first_request.ts";
import { meshSpecs } from "./mesh.ts";
import { freePort, isFree, ownerOf } from "./ports.ts";
import { readRunning, writeRunning } from "./running.ts";
import { chooseRuntime, readRuntimeFacts } from "./runtime.ts";
import { Supervisor, type SupervisorEvent } from "./supervisor.ts";
import { parseUpFlags, type UpConfig, upHelp } from "./up_flags.ts";

/** Ends what is waiting when the mesh is to stop. */
class Stopped extends Error {}

const style = styleOf(process.stderr);

function say(text: string): void {
  process.stderr.write(`${text}\n`);
}

async function up(config: UpConfig): Promise<void> {
  using stop = watchForStop();
  const phases = createPhases();
  await checkNothingRuns(config);
  await Promise.race([setUp("up", phases), stopped(stop)]);

  const runtime = chooseRuntime(config.runtime, readRuntimeFacts(root));
  if (runtime.note) say(`${style.yellow("!")} ${runtime.note}`);
  const natsPort = await chooseNatsPort(config);
  const dashboardPort = await chooseDashboardPort(config);
  const place = { root, runtime, natsPort, dashboardPort };
  const { nats, services } = meshSpecs(config, place);
  const urls = {
    http: `http://127.0.0.1:${config.httpPort}`,
    grpc: `127.0.0.1:${config.grpcPort}`,
    nats: `nats://127.0.0.1:${natsPort}`,
    ...(dashboardPort === undefined
      ? {}
      : { dashboard: `http://localhost:${dashboardPort}` }),
  };
  const logFolder = join(config.dataFolder, "logs");
  const supervisor = new Supervisor({ logFolder, onEvent: report });
  using _running = writeRunning(config.dataFolder, {
    http: urls.http,
    grpc: urls.grpc,
    dashboard: urls.dashboard,
    models: config.models.map(({ name }) => name),
  });
  try {
    if (urls.dashboard) {
      await Promise.race([buildPages(phases), stopped(stop)]);
    }
    const traceId = await Promise.race([
      start({ supervisor, nats, services, phases, httpUrl: urls.http, config }),
      stopped(stop),
    ]);
    announce({ config, urls, phases, logFolder, traceId });
    await stopped(stop);
  } catch (error) {
    if (!(error instanceof Stopped)) throw error;
    say(`\n${style.bold("Stopping")}: ${error.message}`);
  } finally {
    await Promise.race([
      supervisor.stop(),
      stop.second.then(() => supervisor.stop({ atOnce: true })),
    ]);
  }
}

async function stopped({ first }: StopWatch): Promise<never> {
  throw new Stopped(await first);
}

async function checkNothingRuns(config: UpConfig): Promise<void> {
  const other = readRunning(config.dataFolder);
  if (other) {
    throw new UserError(
      `Cannot start a mesh with the data folder ${config.dataFolder}: ` +
        `one runs there already (pid ${other.pid}, ${other.http}, gRPC ${other.grpc})`,
      { hints: ["Stop that one, or choose another folder with --data FOLDER"] },
    );
  }
  const { httpPort, grpcPort, natsPort, dashboard } = config;
  for (
    const [port, what, change] of [
      [httpPort, "HTTP", "--http PORT or QUETZAL_HTTP_PORT"],
      [grpcPort, "gRPC", "--grpc PORT or QUETZAL_GRPC_PORT"],
      [natsPort, "NATS", "--nats PORT or QUETZAL_NATS_PORT"],
      [
        dashboard.kind === "fixed" ? dashboard.port : undefined,
        "the dashboard",
        "--dashboard PORT or QUETZAL_DASHBOARD_PORT",
      ],
    ] as const
  ) {
    if (port === undefined || await isFree(port)) continue;
    throw new UserError(
      `Cannot serve ${what} on port ${port}: it is in use by ${
        ownerOf(port) ?? "another process"
      }`,
      { hints: [`Choose another port with ${change}`] },
    );
  }
}

const usualNatsPort = 14_222;

async function chooseNatsPort({ natsPort }: UpConfig): Promise<number> {
  if (natsPort !== undefined) return natsPort;
  return await isFree(usualNatsPort) ? usualNatsPort : await freePort();
}

async function chooseDashboardPort(
  { dashboard }: UpConfig,
): Promise<number | undefined> {
  if (dashboard.kind === "off") return undefined;
  const { kind, port } = dashboard;
  return kind === "fixed" || await isFree(port) ? port : await freePort();
}

/** A page that cannot be built leaves a dashboard that answers its API and says so. */
async function buildPages(phases: Phases): Promise<void> {
  await phases.run("dashboard's page", async () => {
    try {
      const { buildWeb } = await import(
        "../../services/dashboard/web/build.ts"
      );
      const { ms, compressedBytes } = await buildWeb();
      return `${Math.round(compressedBytes / 1_024)} KiB, ${ms} ms`;
    } catch (error) {
      return `not built: ${(error as Error).message}`;
    }
  });
}

async function start(
  { supervisor, nats, services, phases, httpUrl, config }:
    & ReturnType<typeof meshSpecs>
    & {
      supervisor: Supervisor;
      phases: Phases;
      httpUrl: string;
      config: UpConfig;
    },
): Promise<string | undefined> {
  await phases.run("NATS", () => supervisor.start(nats));
  await phases.run("router and workers", async (detail) => {
    const waiting = new Set(services.map(({ name }) => name));
    detail(`waiting for ${[...waiting].join(", ")}`);
    await Promise.all(services.map(async (spec) => {
      await supervisor.start(spec);
      waiting.delete(spec.name);
      detail(`waiting for ${[...waiting].join(", ")}`);
    }));
    return services.map(({ name }) => name).join(", ");
  });
  let traceId: string | undefined;
  await phases.run("first answer", async () => {
    traceId = await firstRequest({ httpUrl, model: config.models[0].name });
  });
  return traceId;
}

function announce(
  { config, urls, phases, logFolder, traceId }: {
    config: UpConfig;
    urls: { http: string; grpc: string; nats: string; dashboard?: string };
    phases: Phases;
    logFolder: string;
    traceId: string | undefined;
  },
): void {
  const models = config.models.map(({ name }) => name);
  const firstTrace = urls.dashboard && traceId
    ? `${urls.dashboard}/traces/${traceId}`
    : undefined;
  if (config.json) {
    const ready = {
      ...urls,
      firstTrace,
      models,
      logs: logFolder,
      phases: phases.all,
    };
    process.stdout.write(`${JSON.stringify(ready)}\n`);
  }
  const curl = `curl -s ${urls.http}/v1/chat/completions ` +
    `-H 'content-type: application/json' ` +
    `-d '{"model":"${models[0]}","messages":` +
    `[{"role":"user","content":"What is the KV cache?"}]}'`;
  say(`
${phases.table("From the command to the first answer")}
${style.bold("Quetzal is up")} and serves ${models.join(", ")}
  HTTP   ${urls.http}   (OpenAI style: /v1/chat/completions)
  gRPC   ${urls.grpc}
  NATS   ${urls.nats}${
    urls.dashboard ? `\n  dashboard  ${urls.dashboard}` : ""
  }${firstTrace ? `\n  first trace  ${firstTrace}` : ""}
  logs   ${relative(process.cwd(), logFolder) || "."}

${style.bold("Try")}
  ${denoTask} ask "What is the KV cache?"
  ${curl}

Ctrl-C stops it.`);
}

function report(event: SupervisorEvent): void {
  const { name } = event;
  switch (event.kind) {
    case "died":
      say(
        `${style.yellow("!")} ${name} ended with ${event.how}; ` +
          `it starts again in ${event.restartMs} ms`,
      );
      return;
    case "ready":
      if (event.again) say(`${style.green("✓")} ${name} is back`);
      return;
    case "complaint":
      say(`${style.red(name)} ${event.text}`);
      return;
    case "stopped":
      if (event.forced) {
        say(`${style.yellow("!")} ${name} did not stop in time and was killed`);
      }
  }
}

// A closed terminal takes no more text; stopping goes on without it.
for (const output of [process.stdout, process.stderr]) {
  output.on("error", () => {});
}

try {
  const config = parseUpFlags(process.argv.slice(2), {
    env: process.env,
    root,
  });
  if (config === "help") process.stdout.write(upHelp);
  else await up(config);
} catch (error) {
  if (!(error instanceof Stopped)) endWithError(error);
}
// Timers and sockets of a half-done start must not keep us here.
process.exit();

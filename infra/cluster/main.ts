/** `deno task cluster up|down|status`: a real Kubernetes on this machine. */
import { root, setUp } from "../setup/mod.ts";
import {
  createPhases,
  denoTask,
  endWithError,
  styleOf,
  UserError,
} from "../terminal/mod.ts";
import {
  aliveIn,
  type ClusterState,
  readState,
  removeState,
  stopDaemonsOf,
  writeState,
} from "./cluster_state.ts";
import { startControlCluster } from "./control_cluster.ts";
import {
  type ClusterCommand,
  clusterHelp,
  parseClusterFlags,
} from "./flags.ts";
import { runFolder } from "./node/addresses.ts";
import { startNodeCluster, stopNode } from "./node_cluster.ts";

const style = styleOf(process.stderr);

const commands = { up, down, status };

async function up(command: ClusterCommand): Promise<void> {
  const { folder, mode } = command;
  const before = readState(stateFolder(command));
  if (before && aliveIn(before).length > 0) {
    throw new UserError(
      `Cannot start a cluster in ${folder}: one runs already, in ${before.folder} (${before.url})`,
      { hints: [`${denoTask} cluster down --mode ${mode} stops it`] },
    );
  }
  const phases = createPhases();
  await setUp(mode === "node" ? "cluster-node" : "cluster", phases);
  await phases.run(
    `Kubernetes (${mode})`,
    (detail) => start[mode](command, detail),
  );
  process.stderr.write(phases.table("From the command to a ready API"));
  await status(command);
}

const start = {
  async control(
    { folder }: ClusterCommand,
    detail: (text: string) => void,
  ): Promise<void> {
    const { url, kubeconfig, controlPlane } = await startControlCluster({
      folder,
      lifetime: "detached",
      detail,
    });
    const { daemons } = controlPlane;
    writeState(folder, { mode: "control", url, kubeconfig, folder, daemons });
  },
  async node(
    { folder, images }: ClusterCommand,
    detail: (text: string) => void,
  ): Promise<void> {
    await startNodeCluster({ folder, images, lifetime: "detached", detail });
  },
};

/** There is one node at most on a machine, and it is known to all. */
function stateFolder({ mode, folder }: ClusterCommand): string {
  return mode === "node" ? runFolder : folder;
}

async function down(command: ClusterCommand): Promise<void> {
  const { json } = command;
  const state = readState(stateFolder(command));
  const folder = state?.folder ?? command.folder;
  if (state) {
    await createPhases().run("stopping", async () => {
      if (state.mode === "node") return await stopNode(state);
      await stopDaemonsOf(state.daemons);
      removeState(folder);
    });
  }
  const stopped = state?.daemons.map(({ name }) => name) ?? [];
  if (json) process.stdout.write(`${JSON.stringify({ folder, stopped })}\n`);
  else if (!state) say(`No cluster was started in ${folder}.`);
}

function status(command: ClusterCommand): Promise<void> {
  const { mode, json } = command;
  const state = readState(stateFolder(command));
  const folder = state?.folder ?? command.folder;
  const alive = state ? aliveIn(state) : [];
  const complete = state !== undefined && alive.length === state.daemons.length;
  if (json) {
    const { url, kubeconfig } = state ?? {};
    const daemons = state?.daemons.map((daemon) => ({
      ...daemon,
      alive: alive.includes(daemon),
    })) ?? [];
    process.stdout.write(
      `${
        JSON.stringify({ up: complete, mode, folder, url, kubeconfig, daemons })
      }\n`,
    );
  } else say(describe({ state, alive: alive.length, folder, mode }));
  if (!complete) process.exitCode = 1;
  return Promise.resolve();
}

function describe(
  { state, alive, folder, mode }: {
    state: ClusterState | undefined;
    alive: number;
    folder: string;
    mode: string;
  },
): string {
  if (!state) return `No cluster was started in ${folder}.`;
  const { url, kubeconfig, daemons } = state;
  const title = alive === daemons.length
    ? style.bold("Kubernetes is up")
    : `${
      style.red("Not all of Kubernetes runs")
    }: ${alive} of ${daemons.length} processes`;
  return `${title}
  API    ${url}
  use    export KUBECONFIG=${kubeconfig}
  logs   ${folder}/*.log
  stop   ${denoTask} cluster down --mode ${mode}`;
}

function say(text: string): void {
  process.stderr.write(`${text}\n`);
}

try {
  const command = parseClusterFlags(process.argv.slice(2), {
    env: process.env,
    root,
  });
  if (command === "help") process.stdout.write(clusterHelp);
  else await commands[command.action](command);
} catch (error) {
  endWithError(error);
}
process.exit();

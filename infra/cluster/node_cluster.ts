import { ok as assert } from "node:assert/strict";
import { mkdirSync } from "node:fs";
import { basename, join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { denoTask, UserError } from "../terminal/mod.ts";
import {
  aliveIn,
  type ClusterState,
  readState,
  stopDaemonsOf,
  writeState,
} from "./cluster_state.ts";
import { startControlPlane } from "./control/control_plane.ts";
import { makeCredentials } from "./control/credentials.ts";
import { controlPlaneSpecs } from "./control/specs.ts";
import type { Cluster } from "./control_cluster.ts";
import {
  type DaemonRecord,
  isAlive,
  type Lifetime,
  logTail,
  startDaemon,
} from "./daemon.ts";
import { createKubectl, type Kubectl } from "./kubectl.ts";
import { findClusterPrograms } from "./kubernetes/programs.ts";
import { minorVersionOf } from "./kubernetes/version.ts";
import {
  addresses,
  inNamespace,
  nodeName,
  runFolder,
} from "./node/addresses.ts";
import { createCgroups } from "./node/cgroups.ts";
import {
  containerdReady,
  containerdSpec,
  importImages,
} from "./node/containerd.ts";
import { readKernelSettings } from "./node/kernel_settings.ts";
import { removeLeftovers } from "./node/leftovers.ts";
import { createNetwork } from "./node/network.ts";
import { nodeObstacles } from "./node/obstacles.ts";
import { buildPauseImage } from "./node/pause_image.ts";
import { nodeSpecs } from "./node/specs.ts";

/** A Kubernetes with one node that runs pods. */
export interface NodeCluster extends Cluster {
  /** Everything that runs, in the order in which it was started. */
  readonly daemons: readonly DaemonRecord[];
  /** Makes the images of an OCI archive known to the node. */
  importImages(archive: string): Promise<void>;
}

export interface NodeClusterOptions {
  /** Made if absent; holds images, volumes, logs. */
  readonly folder: string;
  readonly lifetime?: Lifetime;
  /** OCI archives that the node knows from the start: it reaches no registry. */
  readonly images?: readonly string[];
  readonly env?: Readonly<Record<string, string | undefined>>;
  readonly detail?: (text: string) => void;
}

const apiPort = 6443;

/**
 * Everything of Kubernetes with one node, in a network namespace of its own;
 * needs root. This machine reaches its pods and Services by their addresses.
 *
 * `await using cluster = await startNodeCluster({ folder })`
 */
export async function startNodeCluster(
  {
    folder,
    lifetime = "bound",
    images = [],
    env = process.env,
    detail = () => {},
  }: NodeClusterOptions,
): Promise<NodeCluster> {
  const programs = await findClusterPrograms({ mode: "node", env, detail });
  const { kubelet, kubeProxy } = programs;
  assert(kubelet && kubeProxy);
  await clearTheWay(folder);
  mkdirSync(folder, { recursive: true });

  const url = `https://${addresses.node}:${apiPort}`;
  const kernelSettings = readKernelSettings();
  const daemons: DaemonRecord[] = [];
  let kubeconfig = "";
  const remember = (...started: readonly DaemonRecord[]) => {
    daemons.push(...started);
    writeState(runFolder, {
      mode: "node",
      url,
      kubeconfig,
      folder,
      daemons,
      kernelSettings,
    });
  };
  const stop = async () => {
    await stopDaemonsOf(daemons);
    await removeLeftovers({ folder, kernelSettings });
  };

  try {
    remember();
    detail("network namespace");
    createCgroups();
    await createNetwork();

    detail("containerd");
    const containerd = startDaemon(containerdSpec(folder), lifetime);
    remember(containerd);
    const [pause, credentials, kubernetesMinor] = await Promise.all([
      buildPauseImage(folder),
      makeCredentials({
        folder: join(folder, "pki"),
        url,
        addresses: [addresses.node, addresses.apiService],
        node: { name: nodeName, address: addresses.node },
      }),
      minorVersionOf(programs.apiServer),
      containerdReady(containerd),
    ]);
    kubeconfig = credentials.kubeconfig.admin;

    detail("etcd and API server");
    const controlPlane = await startControlPlane({
      specs: controlPlaneSpecs({
        programs,
        credentials,
        place: { ...controlPlace, folder, kubernetesMinor },
      }),
      url,
      caCertificate: credentials.caCertificate,
      lifetime,
    });
    remember(...controlPlane.daemons);

    for (const archive of [pause, ...images]) {
      detail(`importing ${basename(archive)}`);
      await importImages(archive);
    }
    const kubectl = createKubectl({ program: programs.kubectl, kubeconfig });
    detail("kubelet");
    const agents = nodeSpecs({
      folder,
      kubelet,
      kubeProxy,
      credentials,
      apiUrl: url,
      kubernetesMinor,
    }).map((spec) => startDaemon(spec, lifetime));
    remember(...agents);
    await nodeReady(kubectl, agents);
    return {
      url,
      kubeconfig,
      kubectl,
      programs,
      controlPlane,
      daemons,
      importImages,
      [Symbol.asyncDispose]: stop,
    };
  } catch (error) {
    await stop();
    throw error;
  }
}

/** In the namespace nobody else has these ports. */
const controlPlace = {
  prefix: inNamespace,
  address: addresses.node,
  apiPort,
  etcdPort: 2379,
  etcdPeerPort: 2380,
  controllerManagerPort: 10_257,
  schedulerPort: 10_259,
  serviceRange: addresses.serviceRange,
  apiFlags: [],
  etcdFlags: [],
};

/** Refuses to be the second node; removes what a killed one left. */
async function clearTheWay(folder: string): Promise<void> {
  const obstacles = await nodeObstacles();
  if (obstacles.length > 0) {
    throw new UserError(
      `Cannot run a node on this machine: ${obstacles.join("; ")}`,
    );
  }
  const before = readState(runFolder);
  if (before && aliveIn(before).length > 0) {
    throw new UserError(
      `Cannot start a node: one runs on this machine already, from ${before.folder}`,
      { hints: [`${denoTask} cluster down --mode node stops it`] },
    );
  }
  await stopNode(before ?? { folder, daemons: [] });
}

/** Stops a node that this or another process started, and removes what it left. */
export async function stopNode(
  { folder, daemons, kernelSettings }: Pick<
    ClusterState,
    "folder" | "daemons" | "kernelSettings"
  >,
): Promise<void> {
  await stopDaemonsOf(daemons);
  await removeLeftovers({ folder, kernelSettings });
}

const readyWithinMs = 60_000;

async function nodeReady(
  kubectl: Kubectl,
  agents: readonly DaemonRecord[],
): Promise<void> {
  const deadlineMs = performance.now() + readyWithinMs;
  const condition = 'jsonpath={.status.conditions[?(@.type=="Ready")].status}';
  while (performance.now() < deadlineMs) {
    const ready = await kubectl([
      ...["get", "node", nodeName, "--output", condition],
      "--ignore-not-found",
    ]);
    // A pod is refused before its namespace has its service account.
    if (ready === "True") {
      const account = await kubectl([
        ...["get", "serviceaccount", "default", "--output", "name"],
        "--ignore-not-found",
      ]);
      if (account !== "") return;
    }
    const ended = agents.find((agent) => !isAlive(agent));
    if (ended) throw failure(`${ended.name} ended`, ended);
    await delay(200);
  }
  const kubelet = agents.find(({ name }) => name === "kubelet")!;
  throw failure(`not ready after ${readyWithinMs / 1_000} s`, kubelet);
}

function failure(what: string, daemon: DaemonRecord): UserError {
  return new UserError(`Cannot start the node: ${what}`, {
    hints: logTail(daemon).map((line) => `| ${line}`),
  });
}

import { mkdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { freePort } from "../local/ports.ts";
import {
  type ControlPlane,
  startControlPlane,
} from "./control/control_plane.ts";
import { makeCredentials } from "./control/credentials.ts";
import { controlPlaneSpecs } from "./control/specs.ts";
import type { Lifetime } from "./daemon.ts";
import { createKubectl, type Kubectl } from "./kubectl.ts";
import { minorVersionOf } from "./kubernetes/version.ts";
import {
  type ClusterPrograms,
  findClusterPrograms,
} from "./kubernetes/programs.ts";

/** A running Kubernetes API, with the administrator's credentials. */
export interface Cluster extends AsyncDisposable {
  readonly url: string;
  /** The administrator's. */
  readonly kubeconfig: string;
  readonly kubectl: Kubectl;
  readonly programs: ClusterPrograms;
  /** Its parts, to stop and start singly. */
  readonly controlPlane: ControlPlane;
}

export interface ControlClusterOptions {
  /** Made if absent; holds everything, and nothing else is written. */
  readonly folder: string;
  readonly lifetime?: Lifetime;
  /** More flags of the API server, such as `--watch-cache=false`. */
  readonly apiFlags?: readonly string[];
  readonly etcdFlags?: readonly string[];
  readonly env?: Readonly<Record<string, string | undefined>>;
  readonly detail?: (text: string) => void;
}

/**
 * etcd, API server, controller manager and scheduler on free ports of loopback:
 * everything of Kubernetes but nodes. Needs no root. About 500 MB.
 *
 * `await using cluster = await startControlCluster({ folder })`
 */
export async function startControlCluster(
  {
    folder,
    lifetime = "bound",
    apiFlags = [],
    etcdFlags = [],
    env = process.env,
    detail = () => {},
  }: ControlClusterOptions,
): Promise<Cluster> {
  const programs = await findClusterPrograms({ mode: "control", env, detail });
  // Credentials are new each time, so what was signed by older ones is of no use.
  rmSync(join(folder, "etcd"), { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  const [apiPort, ...ports] = await freePorts(5);
  const [etcdPort, etcdPeerPort, controllerManagerPort, schedulerPort] = ports;
  const url = `https://127.0.0.1:${apiPort}`;
  detail("certificates");
  const credentials = await makeCredentials({
    folder: join(folder, "pki"),
    url,
    // The first of the Services' range is the API's own.
    addresses: ["10.96.0.1"],
  });
  detail("etcd and API server");
  const controlPlane = await startControlPlane({
    specs: controlPlaneSpecs({
      programs,
      credentials,
      place: {
        folder,
        prefix: [],
        address: "127.0.0.1",
        apiPort,
        etcdPort,
        etcdPeerPort,
        controllerManagerPort,
        schedulerPort,
        serviceRange: "10.96.0.0/16",
        apiFlags,
        etcdFlags,
        kubernetesMinor: await minorVersionOf(programs.apiServer),
      },
    }),
    url,
    caCertificate: credentials.caCertificate,
    lifetime,
  });
  const kubeconfig = credentials.kubeconfig.admin;
  return {
    url,
    kubeconfig,
    kubectl: createKubectl({ program: programs.kubectl, kubeconfig }),
    programs,
    controlPlane,
    [Symbol.asyncDispose]: () => controlPlane.stopAll(),
  };
}

/** All different. */
async function freePorts(count: number): Promise<number[]> {
  const ports = new Set<number>();
  while (ports.size < count) ports.add(await freePort());
  return [...ports];
}

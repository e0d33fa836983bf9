/** The processes of a control plane, as they are to be started. */
import { join } from "node:path";
import type { DaemonSpec } from "../daemon.ts";
import type { ClusterPrograms } from "../kubernetes/programs.ts";
import type { Credentials } from "./credentials.ts";

export interface ControlPlanePlace {
  readonly folder: string;
  /** In front of each command; enters the node's network namespace. */
  readonly prefix: readonly string[];
  /** What the API server binds to and says about itself. */
  readonly address: string;
  readonly apiPort: number;
  readonly etcdPort: number;
  readonly etcdPeerPort: number;
  readonly controllerManagerPort: number;
  readonly schedulerPort: number;
  readonly serviceRange: string;
  /** More flags of the API server, such as `--watch-cache=false`. */
  readonly apiFlags: readonly string[];
  readonly etcdFlags: readonly string[];
  /** 20 for 1.20. */
  readonly kubernetesMinor: number;
}

export interface ControlPlaneSpecs {
  readonly etcd: DaemonSpec;
  readonly apiServer: DaemonSpec;
  readonly controllerManager: DaemonSpec | undefined;
  readonly scheduler: DaemonSpec | undefined;
}

export function controlPlaneSpecs(
  { programs, credentials, place }: {
    programs: ClusterPrograms;
    credentials: Credentials;
    place: ControlPlanePlace;
  },
): ControlPlaneSpecs {
  const spec = (
    name: string,
    program: string,
    args: readonly string[],
  ): DaemonSpec => {
    const [first, ...rest] = [...place.prefix, program, ...args];
    return {
      name,
      program: first,
      args: rest,
      cwd: place.folder,
      logFile: join(place.folder, `${name}.log`),
    };
  };
  const { controllerManager, scheduler } = programs;
  return {
    etcd: spec("etcd", programs.etcd, etcdArgs(place)),
    apiServer: spec(
      "kube-apiserver",
      programs.apiServer,
      apiServerArgs(credentials, place),
    ),
    controllerManager: controllerManager === undefined ? undefined : spec(
      "kube-controller-manager",
      controllerManager,
      controllerManagerArgs(credentials, place),
    ),
    scheduler: scheduler === undefined ? undefined : spec(
      "kube-scheduler",
      scheduler,
      schedulerArgs(credentials, place),
    ),
  };
}

function etcdArgs(
  { folder, etcdPort, etcdPeerPort, etcdFlags }: ControlPlanePlace,
): string[] {
  const client = `http://127.0.0.1:${etcdPort}`;
  const peer = `http://127.0.0.1:${etcdPeerPort}`;
  return [
    `--data-dir=${join(folder, "etcd")}`,
    `--listen-client-urls=${client}`,
    `--advertise-client-urls=${client}`,
    `--listen-peer-urls=${peer}`,
    `--initial-advertise-peer-urls=${peer}`,
    `--initial-cluster=default=${peer}`,
    ...etcdFlags,
  ];
}

function apiServerArgs(
  credentials: Credentials,
  { address, apiPort, etcdPort, serviceRange, apiFlags }: ControlPlanePlace,
): string[] {
  return [
    `--etcd-servers=http://127.0.0.1:${etcdPort}`,
    `--bind-address=${address}`,
    `--advertise-address=${address}`,
    `--secure-port=${apiPort}`,
    `--service-cluster-ip-range=${serviceRange}`,
    `--tls-cert-file=${credentials.serverCertificate}`,
    `--tls-private-key-file=${credentials.serverKey}`,
    `--client-ca-file=${credentials.caCertificate}`,
    `--token-auth-file=${credentials.tokens}`,
    `--kubelet-client-certificate=${credentials.adminCertificate}`,
    `--kubelet-client-key=${credentials.adminKey}`,
    "--kubelet-preferred-address-types=InternalIP",
    "--service-account-issuer=https://kubernetes.default.svc",
    `--service-account-key-file=${credentials.serviceAccountPublicKey}`,
    `--service-account-signing-key-file=${credentials.serviceAccountKey}`,
    "--authorization-mode=Node,RBAC",
    "--allow-privileged=true",
    ...apiFlags,
  ];
}

function controllerManagerArgs(
  { kubeconfig, serviceAccountKey, caCertificate }: Credentials,
  { controllerManagerPort, kubernetesMinor }: ControlPlanePlace,
): string[] {
  return [
    ...asUser(kubeconfig.controllerManager),
    `--service-account-private-key-file=${serviceAccountKey}`,
    `--root-ca-file=${caCertificate}`,
    "--use-service-account-credentials",
    `--secure-port=${controllerManagerPort}`,
    ...noInsecurePort(kubernetesMinor),
  ];
}

function schedulerArgs(
  { kubeconfig }: Credentials,
  { schedulerPort, kubernetesMinor }: ControlPlanePlace,
): string[] {
  return [
    ...asUser(kubeconfig.scheduler),
    `--secure-port=${schedulerPort}`,
    ...noInsecurePort(kubernetesMinor),
  ];
}

function asUser(kubeconfig: string): string[] {
  return [
    `--kubeconfig=${kubeconfig}`,
    `--authentication-kubeconfig=${kubeconfig}`,
    `--authorization-kubeconfig=${kubeconfig}`,
    "--bind-address=127.0.0.1",
    // The only one of its kind has nobody to agree with.
    "--leader-elect=false",
  ];
}

/** Before 1.24 they also listen without TLS, on fixed ports, unless told not to. */
function noInsecurePort(kubernetesMinor: number): string[] {
  return kubernetesMinor < 24 ? ["--port=0"] : [];
}

/** kubelet, kube-proxy and the cluster's DNS, as they are to be started. */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { Credentials } from "../control/credentials.ts";
import type { DaemonSpec } from "../daemon.ts";
import {
  addresses,
  containerdSocket,
  inNamespace,
  nodeName,
} from "./addresses.ts";
import { cgroupRoot } from "./cgroups.ts";

export interface NodeSpecsOptions {
  readonly folder: string;
  readonly kubelet: string;
  readonly kubeProxy: string;
  readonly credentials: Credentials;
  readonly apiUrl: string;
  /** 20 for 1.20. */
  readonly kubernetesMinor: number;
}

export function nodeSpecs(options: NodeSpecsOptions): DaemonSpec[] {
  const { folder } = options;
  const spec = (name: string, command: readonly string[]): DaemonSpec => {
    const [program, ...args] = [...inNamespace, ...command];
    const logFile = join(folder, `${name}.log`);
    return { name, program, args, cwd: folder, logFile };
  };
  return [
    spec("cluster-dns", dnsCommand(options)),
    spec("kubelet", kubeletCommand(options)),
    spec("kube-proxy", kubeProxyCommand(options)),
  ];
}

function kubeletCommand(
  { folder, kubelet, credentials, kubernetesMinor }: NodeSpecsOptions,
): string[] {
  const root = join(folder, "kubelet");
  mkdirSync(root, { recursive: true });
  const resolvConf = join(folder, "resolv.conf");
  writeFileSync(resolvConf, `nameserver ${addresses.node}\n`);
  const config = writeJson(join(folder, "kubelet.json"), {
    apiVersion: "kubelet.config.k8s.io/v1beta1",
    kind: "KubeletConfiguration",
    address: addresses.node,
    authentication: {
      anonymous: { enabled: false },
      webhook: { enabled: true },
      x509: { clientCAFile: credentials.caCertificate },
    },
    authorization: { mode: "Webhook" },
    tlsCertFile: credentials.kubeletCertificate,
    tlsPrivateKeyFile: credentials.kubeletKey,
    cgroupDriver: "cgroupfs",
    cgroupRoot,
    failSwapOn: false,
    clusterDNS: [addresses.node],
    clusterDomain: "cluster.local",
    resolvConf,
    healthzBindAddress: "127.0.0.1",
    // The disk of a machine that builds and tests is fuller than a server's.
    evictionHard: { "memory.available": "100Mi" },
  });
  return [
    kubelet,
    `--config=${config}`,
    `--kubeconfig=${credentials.kubeconfig.kubelet}`,
    `--hostname-override=${nodeName}`,
    `--node-ip=${addresses.node}`,
    `--root-dir=${root}`,
    `--cert-dir=${join(root, "pki")}`,
    `--container-runtime-endpoint=unix://${containerdSocket}`,
    ...(kubernetesMinor < 24 ? ["--container-runtime=remote"] : []),
  ];
}

function kubeProxyCommand(
  { folder, kubeProxy, credentials }: NodeSpecsOptions,
): string[] {
  const config = writeJson(join(folder, "kube-proxy.json"), {
    apiVersion: "kubeproxy.config.k8s.io/v1alpha1",
    kind: "KubeProxyConfiguration",
    mode: "iptables",
    hostnameOverride: nodeName,
    clientConnection: { kubeconfig: credentials.kubeconfig.kubeProxy },
    clusterCIDR: addresses.podRange,
    // Limits of connection tracking are the machine's business.
    conntrack: {
      maxPerCore: 0,
      min: 0,
      tcpEstablishedTimeout: "0s",
      tcpCloseWaitTimeout: "0s",
    },
  });
  return [kubeProxy, `--config=${config}`];
}

function dnsCommand({ credentials, apiUrl }: NodeSpecsOptions): string[] {
  const main = fileURLToPath(new URL("../dns/main.ts", import.meta.url));
  return [
    process.execPath,
    ...["run", "-A", "--cached-only", main],
    ...["--listen", addresses.node, "--api", apiUrl],
    ...["--ca", credentials.caCertificate],
    ...["--cert", credentials.adminCertificate],
    ...["--key", credentials.adminKey],
  ];
}

function writeJson(file: string, value: unknown): string {
  writeFileSync(file, `${JSON.stringify(value, undefined, 2)}\n`);
  return file;
}

/**
 * The networks of the node's namespace. They are cut from 198.18.0.0/15, which is
 * set aside for benchmarks between machines of one laboratory: no other network
 * of this machine can have them.
 */
export const addresses = {
  /** This machine's end of the link. */
  host: "198.18.0.254",
  /** The node's end: API server, kubelet, DNS. */
  node: "198.18.0.1",
  linkRange: "198.18.0.0/24",
  podRange: "198.18.64.0/24",
  serviceRange: "198.19.0.0/16",
  /** The first of the Services: the API's own. */
  apiService: "198.19.0.1",
} as const;

export const nodeName = "node1";
export const namespaceName = "quetzal-node";
export const namespaceFile = `/run/netns/${namespaceName}`;

/** In front of a command that is to run in the namespace. */
export const inNamespace: readonly string[] = [
  "nsenter",
  `--net=${namespaceFile}`,
  "--",
];

/** Sockets and state that do not outlive a boot; short, as sockets need it. */
export const runFolder = "/run/quetzal-node";
export const containerdSocket = `${runFolder}/containerd.sock`;

import { existsSync } from "node:fs";
import { findProgram } from "../process/mod.ts";
import { missingPrograms } from "./kubernetes_programs.ts";

type Env = Readonly<Record<string, string | undefined>>;

/** Debian packages by a file or a program that shows they are there. */
type Shown = Readonly<Record<string, string>>;

/** For etcd and the API server themselves. */
const controlPackages: Shown = {
  "kubernetes-client": "kubectl",
  openssl: "openssl",
};

/** For building Kubernetes from source. */
const buildPackages: Shown = {
  "golang-1.19-go": "/usr/lib/go-1.19/bin/go",
  "golang-github-modern-go-reflect2-dev":
    "/usr/share/gocode/src/github.com/modern-go/reflect2",
  patch: "patch",
  "xz-utils": "xz",
};

/** For a node that runs pods. */
const nodePackages: Shown = {
  containerd: "containerd",
  runc: "runc",
  "containernetworking-plugins": "/usr/lib/cni/bridge",
  iptables: "iptables",
  conntrack: "conntrack",
  iproute2: "ip",
};

/** What `cluster up` lacks here; a build that is done needs no compiler. */
export function clusterPackagesMissing(
  env: Env,
): { control: string[]; node: string[] } {
  const own = !env.KUBEBUILDER_ASSETS;
  const forBuild = (mode: "control" | "node") =>
    own && missingPrograms(env, mode).length > 0 ? buildPackages : {};
  const etcd: Shown = own ? { "etcd-server": "etcd" } : {};
  return {
    control: missing({ ...etcd, ...controlPackages, ...forBuild("control") }),
    node: missing({
      ...etcd,
      ...controlPackages,
      ...forBuild("node"),
      ...nodePackages,
    }),
  };
}

function missing(packages: Shown): string[] {
  return Object.entries(packages)
    .filter(([, shown]) =>
      shown.startsWith("/") ? !existsSync(shown) : !findProgram(shown)
    )
    .map(([name]) => name);
}

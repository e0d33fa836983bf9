/**
 * Where the programs of Kubernetes come from: the folder that
 * `KUBEBUILDER_ASSETS` names, or our own build of Debian's source package.
 */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { findProgram } from "../../process/mod.ts";
import { kubernetesFolder } from "../../setup/mod.ts";
import { UserError } from "../../terminal/mod.ts";
import { buildKubernetes } from "./build.ts";

export type ClusterMode = "control" | "node";

/** Programs by path; what is absent is not started. */
export interface ClusterPrograms {
  readonly etcd: string;
  readonly apiServer: string;
  /** Absent: no garbage collection, no Deployment becomes pods. */
  readonly controllerManager: string | undefined;
  readonly scheduler: string | undefined;
  readonly kubelet: string | undefined;
  readonly kubeProxy: string | undefined;
  readonly kubectl: string;
  /** "KUBEBUILDER_ASSETS" or "Debian's source package". */
  readonly origin: string;
}

export interface FindProgramsOptions {
  readonly mode: ClusterMode;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Shows what a build is at. */
  readonly detail: (text: string) => void;
}

/** Finds the programs, building what is missing: minutes the first time, then nothing. */
export async function findClusterPrograms(
  { mode, env, detail }: FindProgramsOptions,
): Promise<ClusterPrograms> {
  const folder = env.KUBEBUILDER_ASSETS;
  if (folder) return fromAssets(folder, mode);
  await buildKubernetes({ mode, env, detail });
  const bin = join(kubernetesFolder(env), "bin");
  const programs = programsIn(bin);
  return {
    ...programs,
    etcd: needed("etcd", "etcd-server"),
    apiServer: join(bin, "kube-apiserver"),
    kubectl: needed("kubectl", "kubernetes-client"),
    origin: "Debian's source package",
  };
}

/** What `setup/bin/setup-envtest` unpacks: etcd, kube-apiserver, kubectl; others may be there too. */
export function fromAssets(folder: string, mode: ClusterMode): ClusterPrograms {
  const required = [
    "etcd",
    "kube-apiserver",
    ...(mode === "node"
      ? ["kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy"]
      : []),
  ];
  const missing = required.filter((name) => !existsSync(join(folder, name)));
  if (missing.length > 0) {
    throw new UserError(
      `Cannot start a cluster in ${mode} mode: KUBEBUILDER_ASSETS is ${folder}, ` +
        `which needs ${required.join(", ")} and lacks ${missing.join(", ")}`,
      {
        hints: [
          "Add them, or unset KUBEBUILDER_ASSETS to build Kubernetes from Debian's source.",
        ],
      },
    );
  }
  const programs = programsIn(folder);
  return {
    ...programs,
    etcd: join(folder, "etcd"),
    apiServer: join(folder, "kube-apiserver"),
    kubectl: programs.kubectl ?? needed("kubectl", "kubernetes-client"),
    origin: "KUBEBUILDER_ASSETS",
  };
}

function programsIn(folder: string) {
  const program = (name: string) => {
    const file = join(folder, name);
    return existsSync(file) ? file : undefined;
  };
  return {
    controllerManager: program("kube-controller-manager"),
    scheduler: program("kube-scheduler"),
    kubelet: program("kubelet"),
    kubeProxy: program("kube-proxy"),
    kubectl: program("kubectl"),
  };
}

function needed(name: string, debianPackage: string): string {
  const program = findProgram(name);
  if (program) return program;
  throw new UserError(
    `Cannot start a cluster: needs ${name}, found none in PATH`,
    { hints: [`sudo apt-get install -y ${debianPackage}`] },
  );
}

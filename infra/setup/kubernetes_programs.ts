/** Which programs of Kubernetes have been built, and where they are kept. */
import { existsSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";

type Env = Readonly<Record<string, string | undefined>>;

/** Of Debian's source package in bookworm. */
export const kubernetesVersion = "1.20.2";

const controlPrograms = [
  "kube-apiserver",
  "kube-controller-manager",
  "kube-scheduler",
];
const nodePrograms = ["kubelet", "kube-proxy"];

/** In the user's cache folder; `bin/` below it holds finished programs only. */
export function kubernetesFolder(env: Env): string {
  const cache = env.XDG_CACHE_HOME || join(env.HOME || homedir(), ".cache");
  return join(cache, "quetzal", `kubernetes-${kubernetesVersion}`);
}

/** The programs of a cluster of this mode that have not been built yet. */
export function missingPrograms(env: Env, mode: "control" | "node"): string[] {
  const bin = join(kubernetesFolder(env), "bin");
  const all = mode === "node"
    ? [...controlPrograms, ...nodePrograms]
    : controlPrograms;
  return all.filter((name) => !existsSync(join(bin, name)));
}

import { KubeConfig } from "@kubernetes/client-node";

/** From a kubeconfig file, or from the service account of the pod. */
export function kubeConfigOf(file: string | undefined): KubeConfig {
  const config = new KubeConfig();
  if (file === undefined) config.loadFromCluster();
  else config.loadFromFile(file);
  if (!config.getCurrentCluster()) {
    throw new RangeError(
      `Cannot start the autoscaler: ${
        file ?? "the service account"
      } names no cluster`,
    );
  }
  return config;
}

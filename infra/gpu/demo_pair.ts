/** How a mesh serves the demo pair on a GPU. */
import { join } from "node:path";

const root = new URL("../..", import.meta.url).pathname;

/** For QUETZAL_MODELS. */
export function demoPair(): string {
  return ["demo", "draft"].map((name) =>
    `quetzal-${name}=${join(root, `models/quetzal-${name}-q8_0.gguf`)}`
  ).join(",");
}

/** For the workers' environment. The pools are small: all workers share one GPU. */
export function onCuda(
  { library, fatbin }: { readonly library: string; readonly fatbin: string },
): Record<string, string> {
  return {
    QUETZAL_BACKEND: "cuda",
    QUETZAL_LIBCUDA: library,
    QUETZAL_CUDA_KERNELS: fatbin,
    QUETZAL_KV_BLOCKS: "256",
    QUETZAL_BATCH_TOKENS: "64",
    QUETZAL_RUNNING_MAX: "16",
  };
}

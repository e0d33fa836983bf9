/** The images, in one table. The layers are made in `layers.ts`. */
import { bunEnv } from "../local/runtime.ts";

export interface ImageSpec {
  /** Without registry and tag. */
  readonly name: string;
  readonly title: string;
  /** From which its root is made, bottom first. */
  readonly layers: readonly LayerName[];
  readonly entrypoint: readonly string[];
  readonly args: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  readonly workingDir: string;
}

/** Layers with the same name are the same bytes in every image: a node keeps them once. */
export type LayerName =
  | "base"
  | "bun"
  | "deno"
  | "nats"
  | "modules"
  | "controller-modules"
  | "app"
  | "cuda"
  | "demo-models";

/** Nobody in particular, as in distroless images; Kubernetes can check a number. */
export const user = { id: 65_532, name: "nonroot" } as const;

export const appFolder = "/app";

const meshEnv = {
  QUETZAL_HOST: "0.0.0.0",
  HOME: "/tmp",
  NODE_ENV: "production",
  ...bunEnv,
  // Bun keeps transpiled sources here; the root file system is read-only.
  BUN_RUNTIME_TRANSPILER_CACHE_PATH: "/tmp/bun",
};

const mesh: ImageSpec = {
  name: "quetzal/mesh",
  title:
    "Quetzal router, prefill, decode and dashboard; the argument says which",
  layers: ["base", "bun", "modules", "app"],
  entrypoint: ["/usr/local/bin/bun"],
  args: ["services/router/main.ts"],
  env: meshEnv,
  workingDir: appFolder,
};

const denoEntrypoint = [
  "/usr/local/bin/deno",
  "run",
  "--allow-all",
  // All packages are there: it must not ask a registry.
  "--cached-only",
];

export const images = {
  mesh,
  "mesh-cuda": {
    ...mesh,
    name: "quetzal/mesh-cuda",
    title: `${mesh.title}; workers with CUDA kernels`,
    layers: [...mesh.layers, "cuda"],
    env: {
      ...meshEnv,
      // Read by NVIDIA's container runtime, which adds the driver's libcuda.so.1.
      NVIDIA_VISIBLE_DEVICES: "all",
      NVIDIA_DRIVER_CAPABILITIES: "compute,utility",
    },
  },
  demo: {
    ...mesh,
    name: "quetzal/demo",
    title: `${mesh.title}; with the demo models under /app/models`,
    layers: [...mesh.layers, "demo-models"],
  },
  autoscaler: {
    name: "quetzal/autoscaler",
    title: "Quetzal's Kubernetes controller",
    layers: ["base", "deno", "controller-modules", "app"],
    entrypoint: denoEntrypoint,
    args: ["services/autoscaler/main.ts"],
    env: {
      HOME: "/tmp",
      DENO_DIR: "/tmp/deno",
      DENO_NO_UPDATE_CHECK: "1",
      // Memory matters more than the last bit of speed: see docs/benchmarks/controller.md.
      DENO_V8_FLAGS: "--optimize-for-size,--max-semi-space-size=2",
    },
    workingDir: appFolder,
  },
  nats: {
    name: "quetzal/nats",
    title: "NATS server from Debian, for clusters that reach no registry",
    layers: ["base", "nats"],
    entrypoint: ["/usr/sbin/nats-server"],
    args: [],
    env: {},
    workingDir: "/",
  },
} as const satisfies Record<string, ImageSpec>;

export type ImageName = keyof typeof images;

export const imageNames = Object.keys(images) as ImageName[];

export const layerNames: readonly LayerName[] = [
  ...new Set(imageNames.flatMap((name) => [...images[name].layers])),
];

/** Debian packages in the layer "base": what Bun, Deno and the addon load, and whom to trust. */
export const basePackages = [
  "libc6",
  "gcc-12-base",
  "libgcc-s1",
  "libstdc++6",
  "ca-certificates",
] as const;

/** npm packages that only building needs: bundlers, headers, the page's own libraries. */
export const buildOnlyPackages = [
  "@oven/bun-linux-x64",
  "@preact/signals",
  "esbuild",
  "node-api-headers",
  "preact",
];

/** npm packages that only the controller needs. */
export const controllerPackages = ["@kubernetes/client-node"];

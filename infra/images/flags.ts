import { join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { denoTask, UserError } from "../terminal/mod.ts";
import {
  type ImageName,
  imageNames,
  type LayerName,
  layerNames,
} from "./specs.ts";

export interface ImagesCommand {
  readonly names: readonly ImageName[];
  readonly tag: string;
  readonly outFolder: string;
  /** Root folders for a Dockerfile instead of archives. */
  readonly rootFolders: boolean;
  /** Only these layers; all of the images' unless set. */
  readonly layers: readonly LayerName[] | undefined;
  readonly json: boolean;
}

/** What a cluster without GPUs needs. */
const usual: readonly ImageName[] = ["mesh", "demo", "autoscaler", "nats"];

export const imagesHelp =
  `Builds the container images as OCI archives, without Docker and without a registry.

  ${denoTask} images [flags] [name ...]

  names: ${imageNames.join(", ")}
  (${usual.join(", ")})

  --tag TAG       (dev)
  --out FOLDER    one archive for each image, mesh.tar (build/images)
  --folders       root folders of the layers instead, for the Dockerfile
  --layer NAME    with --folders, only this layer; repeatable
  --json          one JSON object on stdout
  --help

A node takes them with \`ctr -n k8s.io images import build/images/mesh.tar\`, Docker
with \`docker load -i build/images/mesh.tar\`, a registry with
\`skopeo copy oci-archive:build/images/mesh.tar docker://HOST/quetzal/mesh:TAG\`.
`;

type Env = Readonly<Record<string, string | undefined>>;

/** Reads the command line; reports all faults at once. */
export function parseImagesFlags(
  args: readonly string[],
  { env, root }: { env: Env; root: string },
): ImagesCommand | "help" {
  const { values, positionals } = readFlags(args);
  if (values.help) return "help";
  const faults: string[] = [];
  const names: ImageName[] = [];
  for (const text of positionals) {
    const name = imageNames.find((name) => name === text);
    if (name === undefined) {
      faults.push(`"${text}" is no image, expected ${imageNames.join(", ")}`);
    } else names.push(name);
  }
  const layers = values.layer as LayerName[];
  for (const layer of layers.filter((name) => !layerNames.includes(name))) {
    faults.push(
      `--layer is "${layer}", expected one of ${layerNames.join(", ")}`,
    );
  }
  if (layers.length > 0 && !values.folders) {
    faults.push("--layer needs --folders: an archive has all layers");
  }
  if (!/^\w[\w.-]{0,127}$/.test(values.tag)) {
    faults.push(
      `--tag is "${values.tag}", expected letters, digits, ".", "-" and "_", up to 128`,
    );
  }
  if (faults.length > 0) throw misuse(faults.join("; "));
  return {
    names: names.length > 0 ? [...new Set(names)] : usual,
    tag: values.tag,
    outFolder: values.out === undefined
      ? join(root, "build/images")
      : resolve(env.INIT_CWD || root, values.out),
    rootFolders: values.folders,
    layers: layers.length > 0 ? layers : undefined,
    json: values.json,
  };
}

function readFlags(args: readonly string[]) {
  try {
    return parseArgs({
      args: [...args],
      allowPositionals: true,
      options: {
        tag: { type: "string", default: "dev" },
        out: { type: "string" },
        layer: { type: "string", multiple: true, default: [] },
        folders: { type: "boolean", default: false },
        json: { type: "boolean", default: false },
        help: { type: "boolean", short: "h", default: false },
      },
    });
  } catch (error) {
    throw misuse((error as Error).message);
  }
}

function misuse(what: string): UserError {
  return new UserError(`Cannot build images: ${what}`, {
    hints: [`${denoTask} images --help lists names and flags`],
    exitCode: 2,
  });
}

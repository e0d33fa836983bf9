import { mkdirSync, rmSync, statSync } from "node:fs";
import { join } from "node:path";
import { runProgram } from "../process/mod.ts";
import { type Layer, packLayer, writeArchive } from "./archive.ts";
import { makeLayer } from "./layers.ts";
import {
  type ImageName,
  images,
  type ImageSpec,
  type LayerName,
  user,
} from "./specs.ts";

export interface BuildImagesOptions {
  /** The checkout. */
  readonly root: string;
  readonly names: readonly ImageName[];
  /** Gets one archive for each image, `mesh.tar`. */
  readonly outFolder: string;
  readonly tag: string;
  readonly detail?: (text: string) => void;
}

export interface BuiltImage {
  readonly name: ImageName;
  /** `quetzal/mesh:dev` */
  readonly reference: string;
  readonly file: string;
  /** Of the image's manifest. */
  readonly digest: string;
  /** Uncompressed, as on a node's disk. */
  readonly bytes: number;
  readonly layers: readonly {
    readonly name: LayerName;
    readonly bytes: number;
  }[];
}

/** Builds OCI archives without a daemon, a registry or root. */
export async function buildImages(
  { root, names, outFolder, tag, detail = () => {} }: BuildImagesOptions,
): Promise<BuiltImage[]> {
  const work = join(outFolder, `work-${process.pid}`);
  mkdirSync(work, { recursive: true });
  try {
    const layers = await makeLayers({ root, names, work, detail });
    const labels = await commonLabels(root);
    const built: BuiltImage[] = [];
    for (const name of names) {
      const spec: ImageSpec = images[name];
      detail(`archive of ${spec.name}`);
      const own = spec.layers.map((layer) => layers.get(layer)!);
      const reference = `${spec.name}:${tag}`;
      const file = join(outFolder, `${name}.tar`);
      const digest = await writeArchive({
        reference,
        layers: own,
        config: {
          ...spec,
          user: `${user.id}:${user.id}`,
          labels: { ...labels, "org.opencontainers.image.title": spec.title },
        },
        file,
        work: join(work, "archive"),
      });
      built.push({
        name,
        reference,
        file,
        digest,
        bytes: own.reduce((sum, { bytes }) => sum + bytes, 0),
        layers: spec.layers.map((layer) => ({
          name: layer,
          bytes: layers.get(layer)!.bytes,
        })),
      });
    }
    return built;
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

async function makeLayers(
  { root, names, work, detail }: {
    root: string;
    names: readonly ImageName[];
    work: string;
    detail: (text: string) => void;
  },
): Promise<Map<LayerName, Layer>> {
  const wanted = new Set(names.flatMap((name) => [...images[name].layers]));
  const layers = new Map<LayerName, Layer>();
  for (const name of wanted) {
    detail(`layer ${name}, ${layers.size + 1} of ${wanted.size}`);
    const folder = join(work, name);
    await makeFolder(name, { root, folder });
    layers.set(name, await packLayer(folder, join(work, `${name}.tar`)));
    rmSync(folder, { recursive: true });
  }
  return layers;
}

/** The content of one layer, as a folder. */
export async function makeFolder(
  name: LayerName,
  { root, folder }: { root: string; folder: string },
): Promise<void> {
  mkdirSync(folder, { recursive: true });
  await makeLayer[name]({ root, folder });
}

export function imageBytes({ file }: BuiltImage): number {
  return statSync(file).size;
}

async function commonLabels(root: string): Promise<Record<string, string>> {
  const { exitCode, tail } = await runProgram("git", ["rev-parse", "HEAD"], {
    cwd: root,
  }).catch(() => ({ exitCode: -1, tail: [] }));
  return {
    "org.opencontainers.image.vendor": "Quetzal",
    "org.opencontainers.image.licenses": "MIT",
    // Absent where the sources came without their history.
    ...(exitCode === 0
      ? { "org.opencontainers.image.revision": tail[0] ?? "" }
      : {}),
  };
}

/**
 * An image as a file: the OCI layout, with the `manifest.json` that
 * `docker load` reads too. Nothing in it depends on the time or on the machine,
 * so that equal content has an equal digest.
 */
import { createHash } from "node:crypto";
import {
  createReadStream,
  existsSync,
  linkSync,
  mkdirSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { runProgram } from "../process/mod.ts";

export interface Layer {
  /** An uncompressed tar file. */
  readonly file: string;
  /** Hex of its SHA-256. */
  readonly digest: string;
  readonly bytes: number;
}

export interface ImageConfig {
  readonly entrypoint: readonly string[];
  readonly args: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  readonly workingDir: string;
  /** `65532:65532`; root unless set. */
  readonly user?: string;
  readonly labels: Readonly<Record<string, string>>;
}

/** Packs a folder as a layer: sorted, owned by root, dated 1970. */
export async function packLayer(folder: string, file: string): Promise<Layer> {
  await tar([
    "--create",
    `--file=${file}`,
    "--sort=name",
    "--owner=0",
    "--group=0",
    "--numeric-owner",
    "--mtime=@0",
    "--format=posix",
    // Without these two the header holds when the file was read.
    "--pax-option=delete=atime,delete=ctime",
    `--directory=${folder}`,
    ".",
  ]);
  return { file, digest: await digestOf(file), bytes: statSync(file).size };
}

/** Writes the archive; answers the digest of its manifest. */
export async function writeArchive(
  { reference, layers, config, file, work }: {
    /** `quetzal/mesh:dev` */
    reference: string;
    layers: readonly Layer[];
    config: ImageConfig;
    file: string;
    /** A folder to build in, on the same file system as the layers. */
    work: string;
  },
): Promise<string> {
  rmSync(work, { recursive: true, force: true });
  const blobs = join(work, "blobs/sha256");
  mkdirSync(blobs, { recursive: true });
  for (const { file, digest } of layers) {
    const blob = join(blobs, digest);
    if (!existsSync(blob)) linkSync(file, blob);
  }
  const addBlob = (value: unknown) => {
    const bytes = Buffer.from(JSON.stringify(value));
    const digest = createHash("sha256").update(bytes).digest("hex");
    writeFileSync(join(blobs, digest), bytes);
    return { digest: `sha256:${digest}`, size: bytes.length };
  };
  const configBlob = addBlob(configJson(layers, config));
  const manifest = addBlob({
    schemaVersion: 2,
    mediaType: "application/vnd.oci.image.manifest.v1+json",
    config: {
      mediaType: "application/vnd.oci.image.config.v1+json",
      ...configBlob,
    },
    layers: layers.map(({ digest, bytes }) => ({
      mediaType: "application/vnd.oci.image.layer.v1.tar",
      digest: `sha256:${digest}`,
      size: bytes,
    })),
  });
  const fullReference = withRegistry(reference);
  const write = (name: string, value: unknown) =>
    writeFileSync(join(work, name), JSON.stringify(value));
  write("oci-layout", { imageLayoutVersion: "1.0.0" });
  write("index.json", {
    schemaVersion: 2,
    manifests: [{
      mediaType: "application/vnd.oci.image.manifest.v1+json",
      ...manifest,
      annotations: {
        "io.containerd.image.name": fullReference,
        "org.opencontainers.image.ref.name": reference.split(":").at(-1),
      },
    }],
  });
  write("manifest.json", [{
    Config: `blobs/sha256/${configBlob.digest.slice("sha256:".length)}`,
    RepoTags: [reference],
    Layers: layers.map(({ digest }) => `blobs/sha256/${digest}`),
  }]);
  await tar([
    "--create",
    `--file=${file}`,
    "--sort=name",
    "--mtime=@0",
    "--owner=0",
    "--group=0",
    "--numeric-owner",
    `--directory=${work}`,
    // The layout's mark first: readers tell the format by it.
    "oci-layout",
    "index.json",
    "manifest.json",
    "blobs",
  ]);
  rmSync(work, { recursive: true });
  return manifest.digest;
}

function configJson(
  layers: readonly Layer[],
  { entrypoint, args, env, workingDir, user, labels }: ImageConfig,
) {
  const path = "PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
  return {
    created: "1970-01-01T00:00:00Z",
    architecture: "amd64",
    os: "linux",
    config: {
      ...(user === undefined ? {} : { User: user }),
      Entrypoint: entrypoint,
      Cmd: args,
      Env: [
        path,
        ...Object.entries(env).map(([key, value]) => `${key}=${value}`),
      ],
      WorkingDir: workingDir,
      Labels: labels,
      StopSignal: "SIGTERM",
    },
    rootfs: {
      type: "layers",
      diff_ids: layers.map(({ digest }) => `sha256:${digest}`),
    },
    history: layers.map(() => ({ created_by: "infra/images" })),
  };
}

/** A name whose first part is no host is one of Docker's registry, for containerd too. */
export function withRegistry(reference: string): string {
  const [first, ...rest] = reference.split("/");
  if (rest.length === 0) return `docker.io/library/${reference}`;
  return /[.:]|^localhost$/.test(first) ? reference : `docker.io/${reference}`;
}

async function digestOf(file: string): Promise<string> {
  const hash = createHash("sha256");
  for await (const chunk of createReadStream(file)) hash.update(chunk);
  return hash.digest("hex");
}

async function tar(args: readonly string[]): Promise<void> {
  const { exitCode, tail } = await runProgram("tar", args);
  if (exitCode === 0) return;
  throw new Error(
    `Cannot pack: tar ended with ${exitCode}: ${tail.join("; ")}`,
  );
}

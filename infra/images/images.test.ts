import { deepEqual, equal, ok, rejects, throws } from "node:assert/strict";
import { createHash } from "node:crypto";
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join, relative, resolve } from "node:path";
import { test } from "vitest";
import { tempDir } from "../../lib/testing/mod.ts";
import { runProgram } from "../process/mod.ts";
import { packLayer, withRegistry, writeArchive } from "./archive.ts";
import { imagesHelp, parseImagesFlags } from "./flags.ts";
import { makeLayer } from "./layers.ts";
import {
  buildOnlyPackages,
  controllerPackages,
  type ImageName,
  imageNames,
  images,
  type ImageSpec,
} from "./specs.ts";
import { readDockerfile } from "./testing/read_dockerfile.ts";

const root = new URL("../..", import.meta.url).pathname;

test.each(imageNames)("the Dockerfile makes the same %s", (name) => {
  const text = readFileSync(join(root, "infra/images/Dockerfile"), "utf8");
  const target = readDockerfile(text).get(name);
  const spec: ImageSpec = images[name];
  deepEqual(target, {
    layers: spec.layers,
    labels: {
      "org.opencontainers.image.title": spec.title,
      "org.opencontainers.image.vendor": "Quetzal",
      "org.opencontainers.image.licenses": "MIT",
    },
    env: spec.env,
    workingDir: spec.workingDir,
    user: "65532:65532",
    entrypoint: spec.entrypoint,
    args: spec.args,
  });
});

/** Services by the image that runs them. */
const services: Partial<Record<ImageName, readonly string[]>> = {
  mesh: [
    "services/router/main.ts",
    "services/prefill/main.ts",
    "services/decode/main.ts",
    "services/dashboard/main.ts",
    "infra/seed/main.ts",
  ],
  autoscaler: ["services/autoscaler/main.ts"],
};

for (const [name, mains] of Object.entries(services)) {
  const without = name === "mesh"
    ? [...buildOnlyPackages, ...controllerPackages]
    : buildOnlyPackages;
  test(`the image ${name} has every package and file that its services import`, async () => {
    await using dir = await tempDir("app");
    await makeAppOf(dir.path);
    const manifest = JSON.parse(
      readFileSync(join(root, "package.json"), "utf8"),
    );
    const packages = Object.keys(manifest.dependencies)
      .filter((name) => !without.includes(name));
    for (const main of mains) {
      const { files, imported } = importsOf(main);
      ok(files.length > 3, `${main} imports ${files.length} files`);
      const kept = new Set(readdirSync(join(dir.path, "app"), {
        recursive: true,
        encoding: "utf8",
      }));
      for (const file of files) ok(kept.has(file), `${main} needs ${file}`);
      for (const name of imported) {
        ok(packages.includes(name), `${main} needs the package ${name}`);
      }
    }
  });
}

/** The layer without addon and page, which need a build. */
async function makeAppOf(folder: string): Promise<void> {
  await makeLayer.app({ root, folder, sourcesOnly: true });
}

/** All files of ours that a file imports, and the packages they name. */
function importsOf(main: string): { files: string[]; imported: Set<string> } {
  const files = new Set<string>();
  const imported = new Set<string>();
  const visit = (file: string) => {
    if (files.has(file)) return;
    files.add(file);
    const text = readFileSync(join(root, file), "utf8");
    // Types alone are gone at run time, but their files may be named all the same.
    const pattern =
      /(?:^|\n)(?:import|export)(?!\s+type\b)[^;"']*?from\s*"([^"]+)"|(?:^|\n)import\s*"([^"]+)"/g;
    for (const [, from, bare] of text.matchAll(pattern)) {
      const specifier = from ?? bare;
      if (specifier.startsWith(".")) {
        visit(relative(root, resolve(root, dirname(file), specifier)));
      } else if (!specifier.startsWith("node:")) {
        const parts = specifier.split("/");
        imported.add(
          parts.slice(0, specifier.startsWith("@") ? 2 : 1).join("/"),
        );
      }
    }
  };
  visit(main);
  return { files: [...files], imported };
}

async function packed(folder: string) {
  mkdirSync(join(folder, "root/etc"), { recursive: true });
  writeFileSync(join(folder, "root/etc/name"), "quetzal\n");
  const layer = await packLayer(
    join(folder, "root"),
    join(folder, "layer.tar"),
  );
  const file = join(folder, "image.tar");
  const digest = await writeArchive({
    reference: "quetzal/x:1",
    layers: [layer],
    config: {
      entrypoint: ["/x"],
      args: ["a"],
      env: { A: "1" },
      workingDir: "/",
      user: "1:1",
      labels: { l: "1" },
    },
    file,
    work: join(folder, "work"),
  });
  return { layer, file, digest };
}

test("an archive is an OCI layout whose digests are right", async () => {
  await using dir = await tempDir("archive");
  const { file, digest } = await packed(dir.path);
  const out = join(dir.path, "out");
  mkdirSync(out);
  equal((await runProgram("tar", ["xf", file, "-C", out])).exitCode, 0);
  const json = (name: string) =>
    JSON.parse(readFileSync(join(out, name), "utf8"));
  const blob = (digest: string) => `blobs/${digest.replace(":", "/")}`;
  for (const name of readdirSync(join(out, "blobs/sha256"))) {
    const bytes = readFileSync(join(out, "blobs/sha256", name));
    equal(createHash("sha256").update(bytes).digest("hex"), name);
  }
  const [entry] = json("index.json").manifests;
  equal(entry.digest, digest);
  equal(
    entry.annotations["io.containerd.image.name"],
    "docker.io/quetzal/x:1",
  );
  const manifest = json(blob(entry.digest));
  const config = json(blob(manifest.config.digest));
  deepEqual(
    config.rootfs.diff_ids,
    manifest.layers.map((
      { digest }: { digest: string },
    ) => digest),
  );
  deepEqual(config.config.Cmd, ["a"]);
  const [docker] = json("manifest.json");
  deepEqual(docker.RepoTags, ["quetzal/x:1"]);
  equal(docker.Config, blob(manifest.config.digest));
});

test("equal content makes an equal digest, whenever and wherever it is packed", async () => {
  await using one = await tempDir("archive");
  await using other = await tempDir("archive");
  const first = await packed(one.path);
  const second = await packed(other.path);
  equal(second.digest, first.digest);
});

test("a folder that is not there is no layer", async () => {
  await using dir = await tempDir("archive");
  await rejects(
    packLayer(join(dir.path, "none"), join(dir.path, "layer.tar")),
    /Cannot pack: tar ended with 2/,
  );
});

const references = [
  ["nats:2", "docker.io/library/nats:2"],
  ["quetzal/mesh:dev", "docker.io/quetzal/mesh:dev"],
  ["quetzal.local/pause:1", "quetzal.local/pause:1"],
  ["localhost/x:1", "localhost/x:1"],
  ["host:5000/x:1", "host:5000/x:1"],
];

test.each(references)("containerd knows %s as %s", (short, full) => {
  equal(withRegistry(short), full);
});

const place = { env: {}, root: "/checkout" };

test("without names the images of a cluster on CPUs are built", () => {
  deepEqual(parseImagesFlags([], place), {
    names: ["mesh", "demo", "autoscaler", "nats"],
    tag: "dev",
    outFolder: "/checkout/build/images",
    rootFolders: false,
    layers: undefined,
    json: false,
  });
});

const wrong: [args: string[], want: RegExp][] = [
  [["router"], /"router" is no image, expected mesh, mesh-cuda, demo/],
  [["--tag", "a b"], /--tag is "a b"/],
  [["--layer", "x", "--folders"], /--layer is "x", expected one of base, bun/],
  [["--layer", "bun"], /--layer needs --folders/],
  [["--push"], /Unknown option '--push'/],
];

test.each(wrong)("images %j is refused", (args, want) => {
  throws(() => parseImagesFlags(args, place), want);
});

test("--help names every flag that is read", () => {
  for (const flag of ["--tag", "--out", "--folders", "--layer", "--json"]) {
    ok(imagesHelp.includes(`\n  ${flag}`), flag);
  }
});
